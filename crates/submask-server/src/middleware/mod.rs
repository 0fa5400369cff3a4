//! What happens to every request before and after its route.

mod access;
mod observe;

pub use access::check_access;
pub use observe::observe;
