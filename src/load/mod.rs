//! (room load)
