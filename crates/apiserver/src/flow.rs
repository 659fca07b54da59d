//! How many requests are on the road at a time. Requests that stay open by nature are not counted, nor are those of
//! `system:masters`: an administrator gets through when all others are held back.

use std::sync::Arc;

use access::user::SYSTEM_MASTERS;
use machinery::ApiError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::call::Call;

/// Limits as upstream has them by default.
const READING: usize = 400;
const WRITING: usize = 200;

/// The two limits.
pub(crate) struct Flow {
    reading: Arc<Semaphore>,
    writing: Arc<Semaphore>,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            reading: Arc::new(Semaphore::new(READING)),
            writing: Arc::new(Semaphore::new(WRITING)),
        }
    }
}

impl Flow {
    /// A place on the road, kept until the answer is made.
    ///
    /// # Errors
    /// 429.
    pub(crate) fn enter(&self, call: &Call) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
        if call.info.is_long_running() || call.user.is_in(SYSTEM_MASTERS) {
            return Ok(None);
        }
        let reading = matches!(
            call.info.verb,
            "get" | "list" | "watch" | "head" | "options"
        );
        let places = if reading {
            &self.reading
        } else {
            &self.writing
        };
        let busy = "Too many requests, please try again later.";
        match places.clone().try_acquire_owned() {
            Ok(permit) => Ok(Some(permit)),
            Err(_) => Err(ApiError::too_many_requests(busy, 1)),
        }
    }
}
