//! `oxikube why TYPE/NAME`: reads what the answer may depend on, and prints it.

use std::path::PathBuf;
use std::process::ExitCode;

use ::why::{Item, Need, Picture};
use anyhow::{Context, anyhow, bail};
use clap::Args;
use control::{Key, Resource, Target};
use futures::future::join_all;
use http::Request;
use jiff::Timestamp;
use kube::Client;
use kube::error::Error as KubeError;
use serde_json::Value;

use crate::cluster::Clusters;
use crate::kubeconfig;

/// Objects of one answer of a list.
const PAGE: usize = 500;
const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// What is asked, and of which cluster.
#[derive(Args)]
pub(crate) struct Question {
    /// The object: TYPE/NAME or TYPE NAME, with the names and short names that kubectl knows.
    #[arg(required = true, num_args = 1..=2)]
    object: Vec<String>,
    /// Its namespace; that of the context when not given.
    #[arg(short, long)]
    namespace: Option<String>,
    /// Name of the cluster of this machine; without it the current context of the kubeconfig is asked.
    #[arg(long)]
    name: Option<String>,
    /// The kubeconfig file; that of kubectl when not given.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The context in it.
    #[arg(long)]
    context: Option<String>,
}

/// Answers on the standard output.
pub(crate) fn run(clusters: &Clusters, question: &Question) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let picture = runtime.block_on(async {
        let reader = Reader::connect(clusters, question).await?;
        reader.picture(question).await
    })?;
    print!("{}", ::why::answer(&picture));
    Ok(ExitCode::SUCCESS)
}

/// Reads a cluster.
struct Reader {
    client: Client,
    kinds: Vec<Served>,
}

/// A kind as discovery tells it.
struct Served {
    resource: Resource,
    names: Vec<String>,
    listable: bool,
}

impl Reader {
    async fn connect(clusters: &Clusters, question: &Question) -> anyhow::Result<Self> {
        let file = match (&question.name, &question.kubeconfig) {
            (_, Some(file)) => file.clone(),
            (Some(name), None) => {
                let cluster = clusters.cluster(name)?;
                match cluster.exists() {
                    true => kubeconfig::own_file(&cluster),
                    false => {
                        bail!("there is no cluster {name}: `oxikube list` shows those that are")
                    }
                }
            }
            (None, None) => kubeconfig::user_file()?,
        };
        let client = client::connect::from_kubeconfig(&file, question.context.as_deref()).await?;
        let mut kinds = Vec::new();
        for root in ["/api", "/apis"] {
            let found = get(&client, root, DISCOVERY)
                .await
                .context("the API cannot be asked what kinds it serves")?;
            kinds.extend(served(&found));
        }
        Ok(Self { client, kinds })
    }

    async fn picture(&self, question: &Question) -> anyhow::Result<Picture> {
        let (kind, name) = split(&question.object)?;
        let served = self.find(kind)?;
        let resource = served.resource.clone();
        let namespace = question.namespace.as_deref();
        let namespace = namespace.unwrap_or_else(|| self.client.default_namespace());
        let key = match resource.namespaced {
            true => Key::new(namespace, name),
            false => Key::cluster(name),
        };
        let target = Target { resource, key };
        let object = get(&self.client, &target.path(), "application/json").await;
        let object = object.map_err(|error| anyhow!("cannot read {target}: {}", words(&error)))?;
        let deleting = !object["metadata"]["deletionTimestamp"].is_null();
        let subject = Item {
            resource: target.resource.clone(),
            object,
        };
        let mut around = Vec::new();
        let mut unread = Vec::new();
        let needs = ::why::needs(&target.resource, &target.key);
        let typed = join_all(needs.iter().map(|need| self.list(need, "application/json"))).await;
        let rest = match deleting {
            true => self.everything_else(&target, &needs),
            false => Vec::new(),
        };
        let metadata = join_all(rest.iter().map(|need| self.list(need, METADATA))).await;
        for (need, read) in needs.iter().zip(typed).chain(rest.iter().zip(metadata)) {
            match read {
                Ok(items) => around.extend(items),
                // A kind that the server does not serve has no objects.
                Err(KubeError::Api(status)) if status.code == 404 => {}
                Err(error) => unread.push(format!("{}: {}", need.resource, words(&error))),
            }
        }
        Ok(Picture {
            subject,
            around,
            unread,
            now: Timestamp::now(),
        })
    }

    fn find(&self, word: &str) -> anyhow::Result<&Served> {
        let word = word.to_lowercase();
        let found = self.kinds.iter().find(|k| k.names.contains(&word));
        found.with_context(|| {
            format!("the server has no resource type {word:?}: `kubectl api-resources` shows those that it has")
        })
    }

    /// The kinds whose objects may be in the way of a deletion, beyond those that are read anyway.
    fn everything_else(&self, target: &Target, needs: &[Need]) -> Vec<Need> {
        let namespace = match target.resource.kind.as_ref() {
            "Namespace" => &target.key.name,
            _ => &target.key.namespace,
        };
        let known = |resource: &Resource| needs.iter().any(|n| n.resource.same_resource(resource));
        let kinds = self.kinds.iter().filter(|k| {
            let events = k.resource.plural == "events";
            k.listable && k.resource.namespaced && !events && !known(&k.resource)
        });
        kinds
            .map(|k| Need {
                resource: k.resource.clone(),
                namespace: namespace.clone(),
            })
            .collect()
    }

    async fn list(&self, need: &Need, accept: &str) -> Result<Vec<Item>, KubeError> {
        let mut items = Vec::new();
        let mut page = String::new();
        loop {
            let path = need.resource.collection_path(&need.namespace);
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", &PAGE.to_string());
            if !page.is_empty() {
                query.append_pair("continue", &page);
            }
            let mut list = get(&self.client, &format!("{path}?{}", query.finish()), accept).await?;
            if let Value::Array(objects) = list["items"].take() {
                let item = |object| Item {
                    resource: need.resource.clone(),
                    object,
                };
                items.extend(objects.into_iter().map(item));
            }
            match list["metadata"]["continue"].as_str() {
                Some(next) if !next.is_empty() => next.clone_into(&mut page),
                _ => return Ok(items),
            }
        }
    }
}

/// What the API said, or why it said nothing.
fn words(error: &KubeError) -> String {
    match error {
        KubeError::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

async fn get(client: &Client, path: &str, accept: &str) -> Result<Value, KubeError> {
    let request = Request::get(path)
        .header("accept", accept)
        .body(Vec::new())
        .map_err(KubeError::HttpError)?;
    client.request(request).await
}

/// `TYPE/NAME` or `TYPE NAME`.
fn split(words: &[String]) -> anyhow::Result<(&str, &str)> {
    let parts = match words {
        [one] => one.split_once('/'),
        [kind, name] => Some((kind.as_str(), name.as_str())),
        _ => None,
    };
    match parts {
        Some((kind, name)) if !kind.is_empty() && control::resource::is_path_segment(name) => {
            Ok((kind, name))
        }
        _ => bail!("name one object, as in: oxikube why pod/web"),
    }
}

/// The kinds of one aggregated discovery document, the preferred version of each group.
fn served(document: &Value) -> Vec<Served> {
    let mut kinds = Vec::new();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for group in list(&document["items"]) {
        let name = group["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let Some(version) = list(&group["versions"]).into_iter().next() else {
            continue;
        };
        let number = version["version"].as_str().unwrap_or_default().to_owned();
        for resource in list(&version["resources"]) {
            kinds.extend(serve(&name, &number, &resource));
        }
    }
    kinds
}

fn serve(group: &str, version: &str, resource: &Value) -> Option<Served> {
    let plural = resource["resource"].as_str()?.to_owned();
    let kind = resource["responseKind"]["kind"].as_str()?.to_owned();
    let singular = resource["singularResource"].as_str().unwrap_or_default();
    let mut names = vec![plural.clone(), singular.to_lowercase(), kind.to_lowercase()];
    names.push(format!("{plural}.{group}"));
    names.push(format!("{}.{group}", kind.to_lowercase()));
    let short = resource["shortNames"].as_array();
    names.extend(
        short
            .into_iter()
            .flatten()
            .filter_map(|s| s.as_str().map(str::to_owned)),
    );
    let verbs = resource["verbs"].as_array();
    Some(Served {
        listable: verbs.is_some_and(|verbs| verbs.iter().any(|v| v == "list")),
        names,
        resource: Resource {
            group: group.to_owned().into(),
            version: version.to_owned().into(),
            plural: plural.into(),
            kind: kind.into(),
            namespaced: resource["scope"] == "Namespaced",
        },
    })
}
