//! What clients see: messages, programs, terminals, uploads, the user channel.

mod api_examples;
mod channel;
mod channel_pressure;
mod client_wishes;
mod downloads;
mod first_page;
mod http;
mod kept;
mod kept_cuts;
mod output;
mod pressure;
mod python_package;
mod run_lifecycle;
mod run_messages;
mod run_py;
mod runners;
mod runners_exec;
mod spec_examples;
mod starts;
mod stop_signals;
mod terminal;
mod terminal_programs;
mod transport;
mod upload_bodies;
mod uploads;
mod vanishing_clients;
