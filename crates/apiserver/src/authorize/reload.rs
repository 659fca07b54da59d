//! The chain follows its file.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use access::authorization::Configuration;

use super::Chain;
use crate::file_watch;
use crate::measures::reloads::{self, File};
use crate::server::Server;

/// Replaces the server's authorizers whenever the file has changed; one that cannot be used changes nothing.
pub(crate) fn follow(server: &Arc<Server>, path: PathBuf, before: String) {
    let weak: Weak<Server> = Arc::downgrade(server);
    let reloads = &server.metrics().measures.reloads;
    reloads.first(File::Authorization, reloads::hash(&before));
    file_watch::follow(path, before, server.shutdown_token(), move |text| {
        let Some(server) = weak.upgrade() else { return };
        let reloads = &server.metrics().measures.reloads;
        let made = Configuration::parse(text).and_then(|c| Chain::new(&c, server.views()));
        match made {
            Ok(chain) => {
                reloads.again(File::Authorization, Some(reloads::hash(text)));
                server.replace_authorizers(chain);
                tracing::info!("reloaded authz config");
            }
            Err(error) => {
                reloads.again(File::Authorization, None);
                tracing::error!(error, "reloading authorization config");
            }
        }
    });
}
