//! Checkpoints of other programs: read, checked, and never executed.
//!
//! | module | what it reads |
//! |---|---|
//! | [`pickle`] | Python's pickle format, as a graph of recorded values |
//! | [`torch`] | files that PyTorch's `torch.save` wrote: a pickle and the tensors beside it |
//!
//! Such a file is hostile input. Nothing in it is called; every length is checked against the bytes that are
//! there; memory and time are bounded by the size of the file; and what is wrong is said with the file's name.

pub mod pickle;
pub mod torch;
