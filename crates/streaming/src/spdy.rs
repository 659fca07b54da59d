//! SPDY/3.1, as far as Kubernetes uses it: one side opens streams, both write into them.
//!
//! Contract: [`Connection::server`] takes an upgraded connection and hands out the streams that
//! the client opens. Windows are not kept: the peers (moby/spdystream in every Kubernetes client)
//! neither send nor respect window updates, so the transport's own back-pressure is all there is,
//! and a stream that nobody reads holds up the others once its queue is full.

mod connection;
mod frame;
mod header;

pub(crate) use connection::{Connection, Stream};
#[cfg(test)]
pub(crate) use frame::{Decoder, Encoder, Frame, RESET_CANCEL};
#[cfg(test)]
pub(crate) use header::Headers;
