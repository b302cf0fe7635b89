//! (room cli)

pub mod sim;
