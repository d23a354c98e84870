//! Memory of what is large and waits, counted before it is used.

pub(crate) mod budget;
