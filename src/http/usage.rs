//! `GET /api/v1/usage`: what the caller's account has used of its day.

use super::caller::Caller;
use super::problem::Problem;
use crate::keys::Scope;
use crate::units::Timestamp;
use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::time::SystemTime;

pub(super) async fn usage(caller: Caller) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let now = Timestamp::from_system(SystemTime::now());
    let used = caller.used(now).await?;
    let limit = caller.tier.pages_per_day;
    let body = json!({
        "success": true,
        "usage": {
            "user": caller.account.name,
            "tier": caller.tier.name,
            "requests_used": used.pages,
            "daily_limit": limit,
            "requests_remaining": limit.map(|limit| limit.saturating_sub(used.pages)),
            "resets_at": used.resets_at,
        }
    });
    Ok(Json::<Value>(body).into_response())
}
