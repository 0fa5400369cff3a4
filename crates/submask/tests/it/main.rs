//! Integration tests: parity with exact fixtures, and samplers and likelihoods on networks whose answer is known.

mod asked_positions;
mod best_checkpoint;
mod block_files;
mod block_reference;
mod block_sessions;
mod block_table;
mod block_traces;
mod block_training;
mod counting;
mod device_draws;
mod device_exact;
mod device_gradients;
mod device_sampling;
mod device_training;
mod encoder;
mod fixtures;
mod format_1;
mod generator;
#[cfg(feature = "hub")]
mod hub;
#[cfg(feature = "hub")]
mod hub_server;
mod image_exact;
mod image_sampler;
mod import_forms;
mod import_hostile;
mod import_reader;
mod likelihood_blocks;
mod likelihood_blocks_exact;
mod likelihood_estimates;
mod likelihood_lengths;
mod likelihood_orders;
mod parity_blocks;
mod parity_images;
mod parity_import;
mod parity_likelihood;
mod parity_networks;
mod pickled;
mod quickstart;
mod rooms;
mod sampler_blocks;
mod sampler_distribution;
mod sampler_exact;
mod sampler_order;
mod sampler_stream;
mod scores;
mod stored_zip;
mod stub;
mod table_network;
mod tiny_networks;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;
