//! Watches: many on one stream, each a task that reads a watch of the store.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use etcd_api::etcdserverpb::watch_create_request::FilterType;
use etcd_api::etcdserverpb::watch_request::RequestUnion;
use etcd_api::etcdserverpb::watch_server::Watch;
use etcd_api::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use etcd_api::mvccpb;
use etcd_api::mvccpb::event::EventType;
use futures::{Stream, StreamExt};
use store::{Batch, EventKind, Store, StoreError, WatchProgress, WatchStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status, Streaming};

use crate::kv::bounds;
use crate::{Service, header, key_value, status};

/// Answers that wait for a slow client, all watches of a stream together.
const WAITING: usize = 64;
/// How often a quiet watch that asks for it is told how far it has come.
const PROGRESS_EVERY: Duration = Duration::from_secs(10 * 60);

type Sender = mpsc::Sender<Result<WatchResponse, Status>>;

#[tonic::async_trait]
impl Watch for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let watches = Watches {
            service: self.clone(),
            sender,
            open: HashMap::new(),
            next_id: 0,
        };
        tokio::spawn(watches.run(request.into_inner()));
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        Ok(Response::new(Box::pin(stream)))
    }
}

struct Watches {
    service: Service,
    sender: Sender,
    open: HashMap<i64, (JoinHandle<()>, WatchProgress)>,
    next_id: i64,
}

impl Drop for Watches {
    fn drop(&mut self) {
        for (task, _) in self.open.values() {
            task.abort();
        }
    }
}

impl Watches {
    async fn run(mut self, mut requests: Streaming<WatchRequest>) {
        loop {
            let request = tokio::select! {
                request = requests.message() => request,
                () = self.sender.closed() => return,
            };
            let Ok(Some(request)) = request else { return };
            let sent = match request.request_union {
                Some(RequestUnion::CreateRequest(create)) => self.create(create).await,
                Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id).await,
                Some(RequestUnion::ProgressRequest(_)) => self.progress().await,
                None => true,
            };
            if !sent {
                return;
            }
        }
    }

    async fn send(&self, response: WatchResponse) -> bool {
        self.sender.send(Ok(response)).await.is_ok()
    }

    async fn create(&mut self, request: WatchCreateRequest) -> bool {
        self.open.retain(|_, (task, _)| !task.is_finished());
        let id = match request.watch_id {
            0 => {
                while self.open.contains_key(&self.next_id) {
                    self.next_id += 1;
                }
                self.next_id += 1;
                self.next_id - 1
            }
            id => id,
        };
        let now = self.service.engine.revision();
        let created = WatchResponse {
            header: Some(header(now)),
            watch_id: id,
            created: true,
            ..WatchResponse::default()
        };
        if self.open.contains_key(&id) {
            return self
                .send(refused(created, "etcdserver: watch ID already exists"))
                .await;
        }
        let from = u64::try_from(request.start_revision).unwrap_or(0);
        let from = if from == 0 { now + 1 } else { from };
        let (start, end) = bounds(&request.key, &request.range_end);
        let watch = self.service.engine.watch(start, end, from);
        match watch.await {
            Ok(stream) => {
                let progress = stream.progress();
                if !self.send(created).await {
                    return false;
                }
                let wanted = Wanted::new(id, &request);
                let task = forward(stream, wanted, self.sender.clone());
                self.open.insert(id, (tokio::spawn(task), progress));
                true
            }
            Err(error) => self.send(created).await && self.send(ended(id, now, error)).await,
        }
    }

    async fn cancel(&mut self, id: i64) -> bool {
        let Some((task, _)) = self.open.remove(&id) else {
            return true;
        };
        task.abort();
        self.send(WatchResponse {
            header: self.service.header_now(),
            watch_id: id,
            canceled: true,
            ..WatchResponse::default()
        })
        .await
    }

    /// Up to which revision every watch of the stream has sent everything.
    async fn progress(&self) -> bool {
        let all = self.open.values();
        let least = all.map(|(_, progress)| progress.revision()).min();
        let revision = least.unwrap_or_else(|| self.service.engine.revision());
        self.send(WatchResponse {
            header: Some(header(revision)),
            watch_id: -1,
            ..WatchResponse::default()
        })
        .await
    }
}

fn refused(created: WatchResponse, why: &str) -> WatchResponse {
    WatchResponse {
        canceled: true,
        cancel_reason: why.to_owned(),
        ..created
    }
}

fn ended(id: i64, now: u64, error: StoreError) -> WatchResponse {
    let compacted = match error {
        StoreError::Compacted { compacted, .. } => compacted,
        _ => 0,
    };
    WatchResponse {
        header: Some(header(now)),
        watch_id: id,
        canceled: true,
        // A client begins anew after this one.
        compact_revision: if compacted > 0 {
            compacted as i64 + 1
        } else {
            0
        },
        cancel_reason: status(error).message().to_owned(),
        ..WatchResponse::default()
    }
}

/// What one watch wants to be told.
struct Wanted {
    id: i64,
    puts: bool,
    deletes: bool,
    previous: bool,
    progress: bool,
}

impl Wanted {
    fn new(id: i64, request: &WatchCreateRequest) -> Wanted {
        let filtered = |filter| request.filters().any(|other| other == filter);
        Wanted {
            id,
            puts: !filtered(FilterType::Noput),
            deletes: !filtered(FilterType::Nodelete),
            previous: request.prev_kv,
            progress: request.progress_notify,
        }
    }

    fn events(&self, batch: &Batch) -> Vec<mvccpb::Event> {
        let wanted = batch.events.iter().filter(|event| match event.kind {
            EventKind::Put => self.puts,
            EventKind::Delete => self.deletes,
        });
        wanted
            .map(|event| mvccpb::Event {
                r#type: match event.kind {
                    EventKind::Put => EventType::Put.into(),
                    EventKind::Delete => EventType::Delete.into(),
                },
                kv: Some(key_value(&event.kv)),
                prev_kv: event
                    .previous
                    .as_ref()
                    .filter(|_| self.previous)
                    .map(key_value),
            })
            .collect()
    }
}

async fn forward(mut stream: WatchStream, wanted: Wanted, sender: Sender) {
    let progress = stream.progress();
    loop {
        let next = match wanted.progress {
            false => stream.next().await,
            true => match tokio::time::timeout(PROGRESS_EVERY, stream.next()).await {
                Ok(next) => next,
                Err(_) => {
                    let told = WatchResponse {
                        header: Some(header(progress.revision())),
                        watch_id: wanted.id,
                        ..WatchResponse::default()
                    };
                    if sender.send(Ok(told)).await.is_err() {
                        return;
                    }
                    continue;
                }
            },
        };
        let response = match next {
            Some(Ok(batch)) => {
                let events = wanted.events(&batch);
                if events.is_empty() {
                    continue;
                }
                WatchResponse {
                    header: Some(header(batch.revision)),
                    watch_id: wanted.id,
                    events,
                    ..WatchResponse::default()
                }
            }
            Some(Err(error)) => ended(wanted.id, progress.revision(), error),
            None => return,
        };
        if sender.send(Ok(response)).await.is_err() {
            return;
        }
    }
}
