//! Room in memory that large bodies have together, whoever sends them.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;

const KIB: usize = 1 << 10;
/// Bodies up to this size, in bytes, are parsed in no time, and as many of them as there are connections have room anyway.
pub const SMALL: usize = 64 * KIB;
/// Bodies of the largest size that there is room for at once.
const LARGE_BODIES: usize = 8;

/// Room for some bodies of at most so many bytes, in KiB.
pub fn for_bodies(largest: usize) -> Arc<Semaphore> {
    let places = largest.div_ceil(KIB).saturating_mul(LARGE_BODIES);
    Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)))
}

/// Room that a body takes; it is free again once this is dropped.
#[derive(Debug)]
pub struct Room {
    bodies: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Of a body that has not come yet.
    pub fn new(bodies: &Arc<Semaphore>) -> Self {
        Self { bodies: Arc::clone(bodies), taken: None }
    }

    /// Takes what a body of so many bytes needs beyond what it has.
    ///
    /// # Errors
    /// 429 where there is not so much.
    pub fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        let taken = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let needed = if bytes > SMALL { bytes.div_ceil(KIB) } else { 0 };
        if needed <= taken {
            return Ok(());
        }
        let more = u32::try_from(needed - taken).map_err(|_| ApiError::too_many_bodies())?;
        let more = Arc::clone(&self.bodies).try_acquire_many_owned(more);
        let more = more.map_err(|_| ApiError::too_many_bodies())?;
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_so_much_room_together() {
        let bodies = for_bodies(128 * KIB);
        let mut rooms: Vec<Room> = (0..9).map(|_| Room::new(&bodies)).collect();
        for room in &mut rooms[..8] {
            room.grow(SMALL).unwrap();
            room.grow(100 * KIB).unwrap();
            room.grow(128 * KIB).unwrap();
        }
        rooms[8].grow(SMALL).unwrap();
        let error = rooms[8].grow(SMALL + 1).unwrap_err();
        assert_eq!(error.status(), axum::http::StatusCode::TOO_MANY_REQUESTS);
        drop(rooms.remove(0));
        rooms[7].grow(128 * KIB).unwrap();
        assert!(rooms[7].grow(128 * KIB + 1).is_err());
    }
}
