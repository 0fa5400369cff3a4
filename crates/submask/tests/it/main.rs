//! Integration tests: parity with exact fixtures, and samplers and likelihoods on networks whose answer is known.

mod fixtures;
mod likelihood_estimates;
mod parity_images;
mod parity_likelihood;
mod parity_networks;
mod quickstart;
mod sampler_distribution;
mod sampler_exact;
mod table_network;
