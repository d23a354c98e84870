//! Who gets in, and what strangers can do: pages, tokens, floods, malformed requests.

mod access;
mod hostile_connections;
mod hostile_requests;
mod resource_limits;
mod tokens;
mod user_tokens;
