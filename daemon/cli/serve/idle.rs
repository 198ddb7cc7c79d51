//! A daemon that systemd starts for connections ends when nobody is there: the next connection starts it again.
//!
//! Connections that come meanwhile wait in the socket, which systemd keeps open; one that was accepted in the last
//! moment is served to its end.

use std::sync::Arc;
use std::time::Duration;

use super::super::{Failure, could_start};
use super::House;

/// How often it is looked at the least.
const LOOK: Duration = Duration::from_secs(5);

/// Comes back when there has been no connection, and nothing that waits for one, for as long as is configured.
pub(super) async fn until_idle(house: Arc<House>) {
    let mut stays = String::new();
    loop {
        let idle = house.config.load().service.idle;
        tokio::time::sleep(idle.map_or(LOOK, |idle| LOOK.min(idle / 4)).max(Duration::from_millis(10))).await;
        let Some(idle) = idle else { continue };
        let quiet = house.server.activity().quiet_for.is_some_and(|quiet| quiet >= idle);
        if !(quiet && nobody_is_logged_in(&house).await && no_upload_waits(&house).await) {
            continue;
        }
        if let Err(failure) = could_start_again(&house).await {
            // Once, and not every few seconds.
            if stays != failure.line {
                log::warn!("nobody is here, and it stays, since it could not start again: {}", failure.line);
                stays = failure.line;
            }
            continue;
        }
        log::info!("nobody has been here for {} s: the next connection starts it again", idle.as_secs());
        return;
    }
}

/// A configuration that is wrong was refused when it was to be read again, and would be when the daemon starts: whoever
/// goes on with the old one must not end.
async fn could_start_again(house: &Arc<House>) -> Result<(), Failure> {
    let house = Arc::clone(house);
    let looked = tokio::task::spawn_blocking(move || {
        let config = (house.load)().map_err(Failure::misuse)?;
        could_start(&config)
    });
    looked.await.map_err(Failure::failed)?
}

/// Sessions are kept in memory: whoever is logged in on the admin page would be logged out.
async fn nobody_is_logged_in(house: &House) -> bool {
    let site = house.server.site();
    !house.desk.is_at_work() && site.access.logged_in(&house.desk.sessions).await == 0
}

async fn no_upload_waits(house: &House) -> bool {
    let store = house.store.clone();
    let uploads = tokio::task::spawn_blocking(move || store.unfinished_uploads()).await;
    // Where that cannot be said the daemon stays.
    matches!(uploads, Ok(Ok(0)))
}
