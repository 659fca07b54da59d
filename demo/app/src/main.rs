//! The two small web applications of the walk-throughs: `hello` (hello-world) and `guestbook` (the Guestbook's front end).
//!
//! Both drain on SIGTERM: they go on serving for a while, so that whoever still sends to them is not turned away while the
//! cluster takes them out of its services, then finish what they have begun and end.

mod guestbook;
mod hello;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use clap::{Parser, Subcommand};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// How long requests are still taken after SIGTERM.
const LAME_DUCK: Duration = Duration::from_secs(3);

#[derive(Parser)]
#[command(about = "Demo applications")]
struct Cli {
    #[command(subcommand)]
    application: Application,
}

#[derive(Subcommand)]
enum Application {
    /// Greets, and tells its host name.
    Hello {
        /// Port to listen on.
        #[arg(long, default_value_t = 8090)]
        port: u16,
        /// What the greeting says about the version.
        #[arg(long, default_value = "")]
        release: String,
    },
    /// Keeps messages in Redis: written to the master, read from the slaves.
    Guestbook {
        /// Port to listen on.
        #[arg(long, default_value_t = 80)]
        port: u16,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().application {
        Application::Hello { port, release } => {
            serve(port, move |_| hello::answer(release.clone())).await
        }
        Application::Guestbook { port } => serve(port, guestbook::answer).await,
    }
}

async fn serve<F, A>(port: u16, application: F) -> anyhow::Result<()>
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Response<Full<Bytes>>> + Send,
{
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await?;
    println!("listening on port {port}");
    let mut terminated = signal(SignalKind::terminate())?;
    let connections = GracefulShutdown::new();
    let accept = async || {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                continue;
            };
            let application = application.clone();
            let service = service_fn(move |request| {
                let answer = application(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            // A connection that fails concerns its client alone.
            tokio::spawn(connections.watch(connection));
        }
    };
    tokio::select! {
        () = accept() => {}
        _ = terminated.recv() => {}
    }
    println!("terminating: serving {} s more", LAME_DUCK.as_secs());
    let _ = tokio::time::timeout(LAME_DUCK, accept()).await;
    connections.shutdown().await;
    Ok(())
}
