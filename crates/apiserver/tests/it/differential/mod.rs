//! Our answers beside those of a stock kube-apiserver v1.37.
//!
//! `facts/` holds what a stock server answered, a file a kind and one for each list that is written by hand (`awkward.txt`, `owners.txt`). A
//! line is a mark, the request's name and the answer, see [`facts`]. A name says all about its request, so the facts alone
//! drive the test. `=`: we answer the same, or the test fails; `!`: we are known not to.
//!
//! `cargo xtask differential --stock DIR` asks a stock server anew (`OXIKUBE_DIFFERENTIAL_STOCK` names the directory of
//! its program) and writes the files.

mod answer;
mod awkward;
mod cases;
mod facts;
mod stock;

use std::collections::BTreeMap;
use std::path::PathBuf;

use api::AnyKind;
use serde_json::{Value, json};

use crate::harness::{Client, Cluster};
use answer::Shown;
use cases::{Case, Request};
use stock::Stock;

/// An answer that takes longer has no end.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// A server that is asked.
enum Peer<'a> {
    Ours(&'a Client),
    Stock(&'a Stock),
}

/// Code, body and warnings of an answer.
type Told = (u16, Value, Vec<String>);

fn warnings(headers: &http::HeaderMap) -> Vec<String> {
    let all = headers.get_all(http::header::WARNING).iter();
    let texts = all.filter_map(|value| value.to_str().ok());
    texts.map(str::to_owned).collect()
}

impl Peer<'_> {
    async fn ask(&self, request: &Request) -> Told {
        let answer = tokio::time::timeout(PATIENCE, self.ask_now(request)).await;
        answer.unwrap_or((0, json!({"reason": "no end"}), Vec::new()))
    }

    async fn ask_now(&self, request: &Request) -> Told {
        match self {
            Self::Ours(client) => {
                let headers = request.headers();
                let sent = client.send(
                    request.method.clone(),
                    &request.path,
                    &headers,
                    request.body.clone(),
                );
                let answer = sent.await;
                let warnings = warnings(&answer.headers);
                (answer.code, answer.body, warnings)
            }
            Self::Stock(stock) => stock.send(request).await,
        }
    }

    /// What pods and the like need to be there.
    async fn furnish(&self) {
        let account = json!({"metadata": {"name": "default", "namespace": "default"}});
        let path = "/api/v1/namespaces/default/serviceaccounts";
        let (code, body, _) = self.ask(&Request::post(path, &account)).await;
        assert!(code == 201 || code == 409, "{code} {body}");
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/differential")
}

/// The name of a kind's file.
fn file_of(kind: &dyn AnyKind) -> PathBuf {
    let names = kind.names();
    let version = names.api_version().replace('/', ".");
    folder().join(format!("facts/{version}.{}.txt", names.kind))
}

/// The answers to all cases of a kind, in order.
async fn play(peer: &Peer<'_>, kind: &dyn AnyKind, cases: &[Case]) -> Vec<Shown> {
    let base = cases::minimal(kind);
    let mut made = None;
    let mut shown = Vec::new();
    for case in cases {
        let request = case.request(kind, &base);
        let (code, body, _) = peer.ask(&request).await;
        shown.push(Shown::of(kind, case, code, &body, made.as_ref()));
        if *case == Case::Create && code < 300 {
            made = Some(answer::neutral(body));
        }
    }
    shown
}

/// Every kind that objects can be made of by a plain request.
fn kinds() -> impl Iterator<Item = &'static dyn AnyKind> {
    api::KINDS.iter().copied().filter(|kind| {
        let verbs = kind.verbs();
        verbs.contains(&api::Verb::Create) && verbs.contains(&api::Verb::Get)
    })
}

#[tokio::test]
async fn answers_are_those_of_a_stock_server() {
    let stock = match std::env::var_os("OXIKUBE_DIFFERENTIAL_STOCK") {
        Some(programs) => Some(Stock::start(&PathBuf::from(programs)).await),
        None => None,
    };
    let cluster = Cluster::start().await;
    let ours = Peer::Ours(&cluster.admin);
    ours.furnish().await;
    if let Some(stock) = &stock {
        Peer::Stock(stock).furnish().await;
    }
    let mut wrong: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut total, mut known) = (0, 0);
    for kind in kinds() {
        let file = file_of(kind);
        let name = kind.names().kind.to_owned();
        if let Some(stock) = &stock {
            let cases = cases::of(kind);
            let theirs = play(&Peer::Stock(stock), kind, &cases).await;
            let own = play(&ours, kind, &cases).await;
            facts::write(&file, &cases, &theirs, &own);
            continue;
        }
        let facts = facts::read(&file);
        let cases: Vec<Case> = facts.iter().map(|fact| fact.case.clone()).collect();
        let own = play(&ours, kind, &cases).await;
        total += facts.len();
        known += facts.iter().filter(|fact| !fact.agrees).count();
        let bad = facts.iter().zip(&own);
        let bad = bad.filter_map(|(fact, own)| {
            problem(fact.agrees, &fact.case.to_string(), &fact.shown, own)
        });
        wrong.entry(name).or_default().extend(bad);
    }
    match &stock {
        Some(stock) => awkward::record(&Peer::Stock(stock), &ours).await,
        None => {
            let (bad, all, differ) = awkward::compare(&ours).await;
            wrong.insert("by hand".to_owned(), bad);
            total += all;
            known += differ;
        }
    }
    wrong.retain(|_, problems| !problems.is_empty());
    assert!(wrong.is_empty(), "{}", told(&wrong));
    println!("{total} answers, {known} of them known to differ");
}

/// What is wrong: an answer that was the stock server's and is not any more. One that has become so may be marked anew.
fn problem(agrees: bool, request: &str, stock: &Shown, own: &Shown) -> Option<String> {
    if !agrees && stock == own {
        println!("said to differ, and does not: {request}");
    }
    (agrees && stock != own).then(|| told_apart(request, stock, own))
}

fn told_apart(request: &str, stock: &Shown, own: &Shown) -> String {
    let (stock, own) = (stock.whole(), own.whole());
    format!("{request}\n  stock: {stock}\n  ours:  {own}")
}

fn told(wrong: &BTreeMap<String, Vec<String>>) -> String {
    let mut out = String::new();
    for (kind, problems) in wrong {
        for problem in problems {
            out.push_str(&format!("{kind}: {problem}\n"));
        }
    }
    out
}
