//! The root side: users, rights, processes that are left, files, and a frontend that was taken over.

mod activation;
mod cleanup;
mod confinement;
mod escape_corpus;
mod files;
mod helper_model;
mod hostile_frontend;
mod identity_faults;
mod limits;
mod privilege;
mod regressions;
mod residual_privilege;
mod terminals_apart;
mod users;
mod users_allowed;
