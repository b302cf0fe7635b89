//! The `pdbench` program.

fn main() {}
