//! The pages and the sources, without a daemon: numbers, links, names of tests, layers.

mod comments;
mod documents;
mod layers;
