//! The Guestbook's front end: a page with a form, `POST /messages` and `GET /messages`.
//!
//! Redis is found by its service's name (`GET_HOSTS_FROM=dns`, the default) or by the environment variables that a service
//! leaves in pods started after it (`GET_HOSTS_FROM=env`).

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, LOCATION};
use hyper::{Method, Request, Response, StatusCode};
use redis::AsyncCommands;

/// The list that holds the messages.
const KEY: &str = "messages";
/// The longest message taken, in bytes.
const MESSAGE_BYTES: usize = 4096;
/// How many of the newest messages are kept.
const MESSAGES_KEPT: isize = 100;
const PAGE: &str = include_str!("guestbook.html");

/// Answers one request.
pub(crate) async fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let answer = match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => Ok(text("text/html; charset=utf-8", PAGE)),
        (&Method::GET, "/healthz") => Ok(text("text/plain", "ok\n")),
        (&Method::GET, "/messages") => list().await,
        (&Method::POST, "/messages") => post(request).await,
        _ => Ok(status(StatusCode::NOT_FOUND, "no such page\n")),
    };
    answer.unwrap_or_else(|error| {
        status(
            StatusCode::BAD_GATEWAY,
            &format!("the guestbook's store does not answer: {error:#}\n"),
        )
    })
}

async fn connect(role: &str) -> anyhow::Result<redis::aio::MultiplexedConnection> {
    let by_environment = std::env::var("GET_HOSTS_FROM").is_ok_and(|from| from == "env");
    let host = match by_environment {
        true => std::env::var(format!("REDIS_{}_SERVICE_HOST", role.to_uppercase()))?,
        false => format!("redis-{role}"),
    };
    let client = redis::Client::open(format!("redis://{host}:6379/"))?;
    Ok(client.get_multiplexed_async_connection().await?)
}

async fn list() -> anyhow::Result<Response<Full<Bytes>>> {
    let messages: Vec<String> = connect("slave").await?.lrange(KEY, 0, -1).await?;
    Ok(text("application/json", &serde_json::to_string(&messages)?))
}

async fn post(request: Request<Incoming>) -> anyhow::Result<Response<Full<Bytes>>> {
    let Ok(body) = Limited::new(request.into_body(), MESSAGE_BYTES)
        .collect()
        .await
    else {
        return Ok(status(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the message is too long\n",
        ));
    };
    let body = body.to_bytes();
    let mut fields = form_urlencoded::parse(&body);
    let Some((_, message)) = fields.find(|(name, value)| name == "message" && !value.is_empty())
    else {
        return Ok(status(
            StatusCode::BAD_REQUEST,
            "say something: message=...\n",
        ));
    };
    let mut master = connect("master").await?;
    let () = master.lpush(KEY, message.as_ref()).await?;
    let () = master.ltrim(KEY, 0, MESSAGES_KEPT - 1).await?;
    let mut answer = status(StatusCode::SEE_OTHER, "thank you\n");
    answer
        .headers_mut()
        .insert(LOCATION, hyper::header::HeaderValue::from_static("/"));
    Ok(answer)
}

fn text(kind: &'static str, body: &str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    answer
}

fn status(code: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut answer = text("text/plain", body);
    *answer.status_mut() = code;
    answer
}
