//! The network side: accepts connections, answers HTTP requests, and carries their messages.

pub(crate) mod app_page;
pub(crate) mod listen;
pub(crate) mod pings;
pub(crate) mod refragment;
pub(crate) mod routes;
pub(crate) mod upload;

mod certificate;
mod cors;
mod files;
mod fragments;
#[cfg(test)]
mod fragments_tests;
mod front_page;
mod upgrade;
mod websocket;
