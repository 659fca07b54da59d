//! `/containerLogs`: which log is meant, and sending it.

use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::{Response, StatusCode};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, PodStatus};
use pod_lifecycle::{config, pod as parts};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Body, text};
use crate::context::Context;
use crate::logs::read::{self, Wanted};

/// How many chunks wait for a slow reader.
const BACKLOG: usize = 4;

pub(super) async fn serve(
    context: &Context,
    namespace: &str,
    name: &str,
    container: &str,
    query: Option<&str>,
) -> Response<Body> {
    let (wanted, previous) = match parse(query.unwrap_or_default(), Timestamp::now()) {
        Ok(parsed) => parsed,
        Err((status, message)) => return text(status, message),
    };
    let Some(mailbox) = context.find_pod(namespace, name) else {
        return text(
            StatusCode::NOT_FOUND,
            format!("pod \"{name}\" does not exist\n"),
        );
    };
    let pod = mailbox.pod();
    if parts::find_container(&pod, container).is_none() {
        let message = format!("container \"{container}\" not found in pod \"{name}\"\n");
        return text(StatusCode::NOT_FOUND, message);
    }
    let known = mailbox.known();
    let id = match id_of(&known.status, name, container, previous) {
        Ok(id) => id,
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    let short = id.rsplit("://").next().unwrap_or_default().to_owned();
    let Some(found) = known.containers.iter().find(|c| c.id == short) else {
        let message = format!("unable to retrieve container logs for {id}");
        return text(StatusCode::OK, message);
    };
    let directory = config::log_directory(&context.node, &pod);
    let file = config::log_path(&found.name, found.restart_count);
    let path = std::path::Path::new(&directory).join(file);
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let mut follow = mailbox.follow_known();
    tokio::spawn(async move {
        let ended = async {
            let gone = follow.wait_for(|known| {
                use pod_lifecycle::view::State::{Created, Running};
                let mut all = known.containers.iter();
                !all.any(|c| c.id == short && matches!(c.state, Created | Running))
            });
            // The worker being gone is an end too.
            drop(gone.await);
        };
        read::send(path, wanted, ended, sender).await;
    });
    let frames = ReceiverStream::new(receiver).map(|chunk| chunk.map(Frame::data));
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    let kind = hyper::header::HeaderValue::from_static("text/plain; charset=utf-8");
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, kind);
    response
}

/// The options of the query; also whether the previous instance is meant.
fn parse(query: &str, now: Timestamp) -> Result<(Wanted, bool), (StatusCode, String)> {
    let bad = || {
        let message = "{\"message\": \"Unable to decode query.\"}";
        (StatusCode::BAD_REQUEST, message.to_owned())
    };
    let invalid = || {
        let message = "{\"message\": \"Invalid request.\"}";
        (StatusCode::UNPROCESSABLE_ENTITY, message.to_owned())
    };
    let mut wanted = Wanted::default();
    let mut previous = false;
    let mut since_seconds = false;
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let flag = || matches!(&*value, "" | "true" | "1");
        let number = || value.parse::<i64>().map_err(|_| bad());
        match &*key {
            "follow" => wanted.follow = flag(),
            "previous" => previous = flag(),
            "timestamps" => wanted.timestamps = flag(),
            "tail" if value == "all" => {}
            "tailLines" | "tail" => {
                wanted.tail = Some(u64::try_from(number()?).map_err(|_| invalid())?);
            }
            "limitBytes" => {
                let limit = u64::try_from(number()?).map_err(|_| invalid())?;
                wanted.limit_bytes = Some(limit).filter(|l| *l > 0);
                wanted.limit_bytes.ok_or_else(invalid)?;
            }
            "sinceSeconds" => {
                let seconds = number()?;
                since_seconds = true;
                if seconds < 1 || wanted.since.is_some() {
                    return Err(invalid());
                }
                wanted.since = Some(parts::after(now, -seconds));
            }
            "sinceTime" if !value.is_empty() => {
                if since_seconds {
                    return Err(invalid());
                }
                wanted.since = Some(value.parse().map_err(|_| bad())?);
            }
            "stream" => {
                wanted.stream = match &*value {
                    "Stdout" => Some("stdout"),
                    "Stderr" => Some("stderr"),
                    "All" | "" => None,
                    _ => return Err(invalid()),
                };
            }
            _ => {}
        }
    }
    Ok((wanted, previous))
}

/// The id of the container whose log is meant, or why there is none.
pub(super) fn id_of(
    status: &PodStatus,
    pod: &str,
    container: &str,
    previous: bool,
) -> Result<String, String> {
    let lists = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let mut all = lists.into_iter().flatten().flatten();
    let place = format!("container \"{container}\" in pod \"{pod}\"");
    let Some(status) = all.find(|s| s.name == container) else {
        return Err(format!("{place} is not available"));
    };
    let state = status.state.clone().unwrap_or_default();
    let last = status
        .last_state
        .as_ref()
        .and_then(|s| s.terminated.as_ref());
    let id = |t: &ContainerStateTerminated| t.container_id.clone().filter(|id| !id.is_empty());
    let is_terminated = || format!("{place} is terminated");
    if previous {
        let missing = || format!("previous terminated {place} not found");
        return last.and_then(id).ok_or_else(missing);
    }
    if state.running.is_some() {
        return Ok(status.container_id.clone().unwrap_or_default());
    }
    if let Some(terminated) = &state.terminated {
        return id(terminated)
            .or_else(|| last.and_then(id))
            .ok_or_else(is_terminated);
    }
    if let Some(last) = last {
        return id(last).ok_or_else(is_terminated);
    }
    let waiting = state.waiting.and_then(|w| w.reason).unwrap_or_default();
    Err(match waiting.as_str() {
        "ErrImagePull" => format!("{place} is waiting to start: image can't be pulled"),
        "ImagePullBackOff" => {
            format!("{place} is waiting to start: trying and failing to pull image")
        }
        "" => format!("{place} is waiting to start - no logs yet"),
        reason => format!("{place} is waiting to start: {reason}"),
    })
}
