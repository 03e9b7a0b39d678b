//! Draft: the lead's file. `account::run`, `jobs::run` and `check_config::run` take their arguments and
//! the configuration; the commands are `AccountCommand`, `JobsCommand` and none.

pub mod account;
pub mod check_config;
pub mod jobs;
mod print;
