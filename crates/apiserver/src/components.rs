//! The other parts of the control plane, and how the server asks whether they are well.
//!
//! A part that runs in this process shows its pulse; one that is a process of its own is asked where its HTTPS listens.
//! Upstream: `pkg/registry/core/componentstatus`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::connect::health;
use crate::server::Server;

/// A part of the control plane.
pub struct Component {
    /// Its name in `componentstatuses`.
    pub name: &'static str,
    /// How it is asked.
    pub alive: Alive,
}

/// How a component is asked whether it is well.
pub enum Alive {
    /// It runs in this process.
    Here(Pulse),
    /// It answers on `/healthz` of this machine, over TLS.
    At(SocketAddr),
}

/// Whether something of this process runs.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicBool>);

/// Ends with the work that it goes with.
struct Beat(Pulse);

impl Pulse {
    /// Shows the pulse for as long as this work lasts, from when it is first polled until it is done or dropped.
    pub fn during<T, W>(&self, work: W) -> impl Future<Output = T> + use<T, W>
    where
        W: Future<Output = T>,
    {
        let pulse = self.clone();
        async move {
            pulse.0.store(true, Ordering::Release);
            let _beat = Beat(pulse);
            work.await
        }
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

/// What came of asking.
pub(crate) struct Health {
    /// Of the condition `Healthy`.
    pub(crate) status: &'static str,
    pub(crate) message: String,
    pub(crate) error: String,
}

impl Health {
    fn good(message: String) -> Self {
        Self {
            status: "True",
            message,
            error: String::new(),
        }
    }

    fn bad(message: String, error: String) -> Self {
        Self {
            status: "False",
            message,
            error,
        }
    }
}

impl Component {
    pub(crate) async fn ask(&self) -> Health {
        match &self.alive {
            Alive::Here(pulse) if pulse.0.load(Ordering::Acquire) => Health::good("ok".into()),
            Alive::Here(_) => {
                Health::bad(format!("the {} is not running", self.name), String::new())
            }
            Alive::At(address) => match health::ask(*address).await {
                Ok((200..=299, text)) => Health::good(text),
                Ok((code, _)) => {
                    let message = format!("HTTP probe failed with statuscode: {code}");
                    Health::bad(message, String::new())
                }
                Err(why) => Health::bad(why, String::new()),
            },
        }
    }
}

/// Asks the store for its present state, which an engine answers only when it works.
pub(crate) async fn ask_store(server: &Server) -> Health {
    match server.store().latest().await {
        Ok(_) => Health::good("ok".into()),
        Err(error) => Health::bad(String::new(), error.to_string()),
    }
}
