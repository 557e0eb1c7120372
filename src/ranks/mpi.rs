//! The link that crosses machines: MPI's point-to-point messages.
