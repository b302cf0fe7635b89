//! (room command)
