//! What the benchmark and the program that it runs have in common: the patterns that are printed and
//! compared.

pub mod pattern;
