//! Accounts: the command line that keeps them, the doors that hold to them, the daemon that lives with both.

mod common;
mod ftp_support;

#[path = "account/command.rs"]
mod command;
#[path = "account/daemon.rs"]
mod daemon;
#[path = "account/doors.rs"]
mod doors;
