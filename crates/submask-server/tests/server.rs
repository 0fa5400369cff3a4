//! The server as its clients meet it: in process where that says all, and over real sockets where it does not.

#[path = "server/access.rs"]
mod access;
#[path = "server/completions.rs"]
mod completions;
#[path = "server/ends.rs"]
mod ends;
#[path = "server/images.rs"]
mod images;
#[path = "server/infill.rs"]
mod infill;
#[path = "server/load.rs"]
mod load;
#[path = "server/operation.rs"]
mod operation;
#[path = "server/scores.rs"]
mod scores;
#[path = "server/sockets.rs"]
mod sockets;
#[path = "server/support.rs"]
mod support;
