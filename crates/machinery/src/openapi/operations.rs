//! The operations of a group version: what can be done with each of its resources, and under which names.

use super::model::{
    CUSTOM_PATCH_TYPES, Content, Media, Operation, Operations, PATCH_TYPES, Parameter, Query,
};
use super::{ServedResource, ServedSubresource, own, params};

/// `CoreV1`, `RbacAuthorizationV1`.
fn camel_version(group: &str, version: &str) -> String {
    let mut out = String::new();
    for word in group_words(group) {
        out.push_str(&upper_first(word));
    }
    out.push_str(&upper_first(version));
    out
}

/// `core`, `rbacAuthorization`.
pub(super) fn group_tag(group: &str) -> String {
    let mut out = String::new();
    for (i, word) in group_words(group).enumerate() {
        if i == 0 {
            out.push_str(word);
        } else {
            out.push_str(&upper_first(word));
        }
    }
    out
}

fn group_words(group: &str) -> impl Iterator<Item = &str> {
    let short = if group.is_empty() {
        "core"
    } else {
        group.strip_suffix(".k8s.io").unwrap_or(group)
    };
    short.split('.')
}

pub(super) fn upper_first(word: &str) -> String {
    let mut chars = word.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// The path of a group version: `/api/v1`, `/apis/apps/v1`.
pub(super) fn base_path(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    }
}

/// ` a `, ` an `, or a space before a plural.
fn article(kind: &str) -> &'static str {
    if kind.ends_with('s') && !kind.ends_with("ss") {
        " "
    } else if kind.starts_with(['A', 'E', 'I', 'O', 'U']) {
        " an "
    } else {
        " a "
    }
}

/// Kinds whose deletion answers with the deleted object; all others answer with a `Status`.
const ANSWERS_DELETED: [(&str, &str); 16] = [
    ("", "Pod"),
    ("", "Service"),
    ("", "ServiceAccount"),
    ("", "PodTemplate"),
    ("", "PersistentVolume"),
    ("", "PersistentVolumeClaim"),
    ("", "ResourceQuota"),
    ("storage.k8s.io", "CSIDriver"),
    ("storage.k8s.io", "CSINode"),
    ("storage.k8s.io", "StorageClass"),
    ("storage.k8s.io", "VolumeAttachment"),
    ("storage.k8s.io", "VolumeAttributesClass"),
    ("resource.k8s.io", "DeviceClass"),
    ("resource.k8s.io", "ResourceClaim"),
    ("resource.k8s.io", "ResourceClaimTemplate"),
    ("resource.k8s.io", "ResourceSlice"),
];

const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const WATCH_EVENT: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent";
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
const RESOURCE_LIST: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList";

/// The operations of one group version: discovery and all of its resources.
pub(super) fn of_group_version(
    group: &str,
    version: &str,
    resources: &[ServedResource],
) -> Operations {
    let mut out = Operations::new();
    let discovery = own::discovery(
        &format!("get{}APIResources", camel_version(group, version)),
        &format!("{}_{version}", group_tag(group)),
        "get available resources",
        Content::Object(RESOURCE_LIST.to_owned()),
    );
    out.insert(format!("{}/", base_path(group, version)), vec![discovery]);
    let own = |r: &&ServedResource| r.group == group && r.version == version;
    for resource in resources.iter().filter(own) {
        Builder::new(resource).add_all(&mut out);
    }
    out
}

struct Builder<'a> {
    resource: &'a ServedResource,
    camel: String,
    /// `Namespaced` or nothing.
    scope: &'static str,
    /// The path of the collection.
    collection: String,
}

impl<'a> Builder<'a> {
    fn new(resource: &'a ServedResource) -> Self {
        let base = base_path(&resource.group, &resource.version);
        let (scope, collection) = if resource.namespaced {
            let path = format!("{base}/namespaces/{{namespace}}/{}", resource.plural);
            ("Namespaced", path)
        } else {
            ("", format!("{base}/{}", resource.plural))
        };
        Self {
            resource,
            camel: camel_version(&resource.group, &resource.version),
            scope,
            collection,
        }
    }

    fn has(&self, verb: &str) -> bool {
        self.resource.verbs.iter().any(|v| v == verb)
    }

    fn add_all(&self, out: &mut Operations) {
        let mut put = |path: String, operations: Vec<Operation>| {
            if !operations.is_empty() {
                out.insert(path, operations);
            }
        };
        let item = format!("{}/{{name}}", self.collection);
        put(self.collection.clone(), self.collection_operations());
        put(item.clone(), self.item_operations());
        let base = base_path(&self.resource.group, &self.resource.version);
        let rest = self.collection.trim_start_matches(&base).to_owned();
        let plural = &self.resource.plural;
        if self.resource.namespaced && self.has("list") {
            put(format!("{base}/{plural}"), vec![self.list_all()]);
        }
        if self.has("watch") {
            put(format!("{base}/watch{rest}"), vec![self.watch(false)]);
            put(
                format!("{base}/watch{rest}/{{name}}"),
                vec![self.watch(true)],
            );
            if self.resource.namespaced {
                put(format!("{base}/watch/{plural}"), vec![self.watch_all()]);
            }
        }
        for sub in &self.resource.subresources {
            let path = format!("{item}/{}", sub.name);
            match sub.name.as_str() {
                "exec" | "attach" | "portforward" => put(path, self.connect(sub, "")),
                "proxy" => {
                    put(format!("{path}/{{path}}"), self.connect(sub, "WithPath"));
                    put(path, self.connect(sub, ""));
                }
                "log" => put(path, vec![self.log(sub)]),
                _ => put(path, self.sub_operations(sub)),
            }
        }
    }

    fn operation(&self, method: &'static str, id: String, description: String) -> Operation {
        let r = self.resource;
        Operation {
            method,
            id,
            description,
            tag: format!("{}_{}", group_tag(&r.group), r.version),
            action: "",
            gvk: Some([r.group.clone(), r.version.clone(), r.kind.clone()]),
            parameters: vec![Parameter::from(&params::PRETTY)],
            body: None,
            patch: &[],
            answers: Vec::new(),
            media: Media::Object,
        }
    }

    fn object(&self) -> Content {
        Content::Object(self.resource.definition.clone())
    }

    fn list_text(&self) -> String {
        let what = if self.has("watch") {
            "list or watch"
        } else {
            "list"
        };
        format!("{what} objects of kind {}", self.resource.kind)
    }

    fn list_content(&self) -> Content {
        Content::Object(format!("{}List", self.resource.definition))
    }

    /// Adds the parameters of the path, of the query, and gives the operation its action.
    fn finish(
        &self,
        mut operation: Operation,
        action: &'static str,
        named: Option<&str>,
        queries: &[Query],
    ) -> Operation {
        operation.action = action;
        operation
            .parameters
            .extend(queries.iter().map(Parameter::from));
        let in_path = |name, description: String| Parameter {
            name,
            kind: "string",
            description,
            in_path: true,
        };
        if let Some(kind) = named {
            let text = format!("name of the {kind}");
            operation.parameters.push(in_path("name", text));
        }
        if self.resource.namespaced {
            let text = "object name and auth scope, such as for teams and projects";
            operation
                .parameters
                .push(in_path("namespace", text.to_owned()));
        }
        operation
    }

    fn collection_operations(&self) -> Vec<Operation> {
        let (camel, scope, kind) = (&self.camel, self.scope, &self.resource.kind);
        let mut out = Vec::new();
        if self.has("list") {
            let text = self.list_text();
            let mut get = self.operation("get", format!("list{camel}{scope}{kind}"), text);
            get.answers = vec![(200, self.list_content())];
            get.media = Media::List;
            out.push(self.finish(get, "list", None, params::LIST));
        }
        if self.has("create") {
            let text = format!("create{}{kind}", article(kind));
            let mut post = self.operation("post", format!("create{camel}{scope}{kind}"), text);
            post.body = Some((self.resource.definition.clone(), true));
            post.answers = [200, 201, 202].map(|code| (code, self.object())).to_vec();
            out.push(self.finish(post, "post", None, params::CREATE));
        }
        if self.has("deletecollection") {
            let text = format!("delete collection of {kind}");
            let id = format!("delete{camel}Collection{scope}{kind}");
            let mut delete = self.operation("delete", id, text);
            delete.body = Some((DELETE_OPTIONS.to_owned(), false));
            delete.answers = vec![(200, Content::Object(STATUS.to_owned()))];
            out.push(self.finish(delete, "deletecollection", None, params::DELETE_COLLECTION));
        }
        out
    }

    fn item_operations(&self) -> Vec<Operation> {
        let (camel, scope, kind) = (&self.camel, self.scope, &self.resource.kind);
        let mut out = Vec::new();
        let named = Some(kind.as_str());
        if self.has("get") {
            let text = format!("read the specified {kind}");
            let mut get = self.operation("get", format!("read{camel}{scope}{kind}"), text);
            get.answers = vec![(200, self.object())];
            out.push(self.finish(get, "get", named, &[]));
        }
        if self.has("update") {
            let text = format!("replace the specified {kind}");
            let mut put = self.operation("put", format!("replace{camel}{scope}{kind}"), text);
            put.body = Some((self.resource.definition.clone(), true));
            put.answers = [200, 201].map(|code| (code, self.object())).to_vec();
            out.push(self.finish(put, "put", named, params::UPDATE));
        }
        if self.has("patch") {
            let text = format!("partially update the specified {kind}");
            let patch = self.operation("patch", format!("patch{camel}{scope}{kind}"), text);
            out.push(self.finish(
                self.with_patch(patch, &self.object()),
                "patch",
                named,
                params::PATCH,
            ));
        }
        if self.has("delete") {
            let text = format!("delete{}{kind}", article(kind));
            let mut delete = self.operation("delete", format!("delete{camel}{scope}{kind}"), text);
            delete.body = Some((DELETE_OPTIONS.to_owned(), false));
            let of = (self.resource.group.as_str(), kind.as_str());
            let answer = match ANSWERS_DELETED.contains(&of) {
                true => self.object(),
                false => Content::Object(STATUS.to_owned()),
            };
            delete.answers = [200, 202].map(|code| (code, answer.clone())).to_vec();
            out.push(self.finish(delete, "delete", named, params::DELETE));
        }
        out
    }

    fn list_all(&self) -> Operation {
        let (camel, kind) = (&self.camel, &self.resource.kind);
        let id = format!("list{camel}{kind}ForAllNamespaces");
        let mut get = self.operation("get", id, self.list_text());
        get.answers = vec![(200, self.list_content())];
        get.media = Media::List;
        let mut get = self.finish(get, "list", None, params::LIST);
        get.parameters.retain(|p| !p.in_path);
        get
    }

    fn watch_event(&self, id: String, text: String) -> Operation {
        let mut get = self.operation("get", id, text);
        get.answers = vec![(200, Content::Object(WATCH_EVENT.to_owned()))];
        get.media = Media::List;
        get
    }

    fn watch(&self, one: bool) -> Operation {
        let (camel, scope, kind) = (&self.camel, self.scope, &self.resource.kind);
        if one {
            let text = format!(
                "watch changes to an object of kind {kind}. deprecated: use the 'watch' parameter with a list operation instead, filtered to a single item with the 'fieldSelector' parameter."
            );
            let get = self.watch_event(format!("watch{camel}{scope}{kind}"), text);
            return self.finish(get, "watch", Some(kind), params::LIST);
        }
        let text = watch_list_text(kind);
        let get = self.watch_event(format!("watch{camel}{scope}{kind}List"), text);
        self.finish(get, "watchlist", None, params::LIST)
    }

    fn watch_all(&self) -> Operation {
        let (camel, kind) = (&self.camel, &self.resource.kind);
        let id = format!("watch{camel}{kind}ListForAllNamespaces");
        let get = self.watch_event(id, watch_list_text(kind));
        let mut get = self.finish(get, "watchlist", None, params::LIST);
        get.parameters.retain(|p| !p.in_path);
        get
    }

    fn sub_operations(&self, sub: &ServedSubresource) -> Vec<Operation> {
        let (camel, scope, kind) = (&self.camel, self.scope, &self.resource.kind);
        let (name, suffix) = (&sub.name, upper_first(&sub.name));
        let content = Content::Object(sub.definition.clone());
        let named = Some(sub.kind.as_str());
        let has = |verb: &str| sub.verbs.iter().any(|v| v == verb);
        let start = |method, word: &str, text: String| {
            let id = format!("{word}{camel}{scope}{kind}{suffix}");
            let mut operation = self.operation(method, id, text);
            operation.gvk = Some([sub.group.clone(), sub.version.clone(), sub.kind.clone()]);
            operation
        };
        let mut out = Vec::new();
        if has("get") {
            let mut get = start(
                "get",
                "read",
                format!("read {name} of the specified {kind}"),
            );
            get.answers = vec![(200, content.clone())];
            out.push(self.finish(get, "get", named, &[]));
        }
        if has("create") {
            let text = format!("create {name} of{}{kind}", article(kind));
            let mut post = start("post", "create", text);
            post.body = Some((sub.definition.clone(), true));
            post.answers = [200, 201, 202].map(|c| (c, content.clone())).to_vec();
            out.push(self.finish(post, "post", named, params::CREATE));
        }
        if has("update") {
            let text = format!("replace {name} of the specified {kind}");
            let mut put = start("put", "replace", text);
            put.body = Some((sub.definition.clone(), true));
            put.answers = [200, 201].map(|c| (c, content.clone())).to_vec();
            out.push(self.finish(put, "put", named, params::UPDATE));
        }
        if has("patch") {
            let text = format!("partially update {name} of the specified {kind}");
            let patch = self.with_patch(start("patch", "patch", text), &content);
            out.push(self.finish(patch, "patch", named, params::PATCH));
        }
        out
    }

    fn with_patch(&self, mut operation: Operation, content: &Content) -> Operation {
        operation.body = Some((PATCH.to_owned(), true));
        operation.patch = match self.resource.merges_plainly {
            true => &CUSTOM_PATCH_TYPES,
            false => &PATCH_TYPES,
        };
        operation.answers = [200, 201].map(|code| (code, content.clone())).to_vec();
        operation
    }

    fn log(&self, sub: &ServedSubresource) -> Operation {
        let (camel, scope, kind) = (&self.camel, self.scope, &self.resource.kind);
        let id = format!("read{camel}{scope}{kind}{}", upper_first(&sub.name));
        let text = format!("read {} of the specified {kind}", sub.name);
        let mut get = self.operation("get", id, text);
        get.answers = vec![(200, Content::Text)];
        get.media = Media::Text;
        self.finish(get, "get", Some(kind), params::POD_LOG)
    }

    fn connect(&self, sub: &ServedSubresource, with_path: &str) -> Vec<Operation> {
        let (camel, scope, kind) = (&self.camel, self.scope, &self.resource.kind);
        let (options, queries) = match (kind.as_str(), sub.name.as_str()) {
            (_, "exec") => ("PodExecOptions", params::POD_EXEC),
            (_, "attach") => ("PodAttachOptions", params::POD_ATTACH),
            (_, "portforward") => ("PodPortForwardOptions", params::POD_PORT_FORWARD),
            ("Node", _) => ("NodeProxyOptions", params::NODE_PROXY),
            ("Service", _) => ("ServiceProxyOptions", params::SERVICE_PROXY),
            _ => ("PodProxyOptions", params::POD_PROXY),
        };
        let methods: &[&str] = match sub.name.as_str() {
            "proxy" => &["delete", "get", "head", "options", "patch", "post", "put"],
            _ => &["get", "post"],
        };
        let operation = |method: &&'static str| {
            let id = format!(
                "connect{camel}{}{scope}{kind}{}{with_path}",
                upper_first(method),
                upper_first(&sub.name)
            );
            let upper = method.to_uppercase();
            let text = format!("connect {upper} requests to {} of {kind}", sub.name);
            let mut operation = self.operation(method, id, text);
            operation.gvk = Some([
                self.resource.group.clone(),
                self.resource.version.clone(),
                options.to_owned(),
            ]);
            operation.parameters.clear();
            operation.answers = vec![(200, Content::Stream)];
            operation.media = Media::Any;
            let mut operation = self.finish(operation, "connect", Some(options), queries);
            if !with_path.is_empty() {
                operation.parameters.push(Parameter {
                    name: "path",
                    kind: "string",
                    description: "path to the resource".to_owned(),
                    in_path: true,
                });
            }
            operation
        };
        methods.iter().map(operation).collect()
    }
}

fn watch_list_text(kind: &str) -> String {
    format!(
        "watch individual changes to a list of {kind}. deprecated: use the 'watch' parameter with a list operation instead."
    )
}
