//! (being written)
mod settings;
pub use settings::{PublicUrl, Settings, StatusAccess};
