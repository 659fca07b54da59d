//! A small API server's worth of semantics over a map: UIDs, versions, preconditions, finalizers.

use std::collections::BTreeMap;
use std::fmt;

use control::caches::Discovered;
use control::{
    Action, Answer, Answers, Caches, Failure, Key, Look, Names, Patch, Plan, Propagation, Question,
    Reconciler, Resource, Target, Wake,
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// Why an action was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is an object of this name.
    AlreadyExists,
    /// There is none.
    NotFound,
    /// A precondition does not hold.
    Conflict,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// All objects, and the time.
#[derive(Clone, Debug)]
pub struct World {
    /// The objects.
    pub objects: BTreeMap<Target, Value>,
    /// What time it is.
    pub now: Timestamp,
    /// Where the next name suffixes come from.
    pub seed: u64,
    /// What went wrong before, as the driver would tell.
    pub failure: Option<Failure>,
    /// What the last plan wanted to be remembered.
    pub since: Option<Timestamp>,
    /// The answer to every question about access.
    pub allows: bool,
    version: u64,
    uids: u64,
}

impl World {
    /// A world with nothing in it, on the first of January 2026.
    pub fn empty() -> Self {
        Self {
            objects: BTreeMap::new(),
            now: "2026-01-01T00:00:00Z".parse().expect("a valid time"),
            seed: 1,
            failure: None,
            since: None,
            allows: true,
            version: 100,
            uids: 0,
        }
    }

    /// A world of these YAML documents. UIDs and versions are filled in where they are missing.
    ///
    /// # Panics
    /// The text is not YAML.
    pub fn from_yaml(text: &str) -> Self {
        let mut world = Self::empty();
        for document in text.split("\n---") {
            if !document.trim().is_empty() {
                let value: Value = serde_saphyr::from_str(document)
                    .unwrap_or_else(|e| panic!("test YAML: {e}\n{document}"));
                world.put(value);
            }
        }
        world
    }

    /// Puts an object in as it is, filling in what every stored object has.
    ///
    /// # Panics
    /// It has no name.
    pub fn put(&mut self, mut object: Value) {
        let resource = resource_of(&object);
        let meta = &mut object["metadata"];
        let name = meta["name"].as_str().expect("a name").to_owned();
        let namespace = meta["namespace"].as_str().unwrap_or_default();
        let key = Key::new(namespace, name.clone());
        self.version += 1;
        meta["resourceVersion"] = self.version.to_string().into();
        if meta["uid"].is_null() {
            meta["uid"] = format!("{}-uid", name).into();
        }
        if meta["creationTimestamp"].is_null() {
            meta["creationTimestamp"] = "2025-12-31T00:00:00Z".into();
        }
        self.objects.insert(Target { resource, key }, object);
    }

    /// One object.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<&Value> {
        let key = Key::new(namespace, name);
        let found = self
            .objects
            .iter()
            .find(|(t, _)| t.resource.kind == kind && t.key == key);
        found.map(|(_, object)| object)
    }

    /// All objects of a kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        let objects = self.objects.iter();
        objects
            .filter(move |(t, _)| t.resource.kind == kind)
            .map(|(_, object)| object)
    }

    /// How many objects of each kind there are.
    pub fn census(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for target in self.objects.keys() {
            *counts.entry(target.resource.kind.to_string()).or_default() += 1;
        }
        counts
    }

    /// The caches that a controller would have of this world.
    pub fn caches<R: Reconciler>(&self) -> Caches {
        let mut caches = Caches::new();
        let mut wake = Wake::new(&mut caches, 0);
        R::wake(&mut wake);
        drop(wake);
        let mut resources: Vec<Resource> =
            self.objects.keys().map(|t| t.resource.clone()).collect();
        resources.extend(caches.stores().map(|s| s.resource().clone()));
        resources.sort();
        resources.dedup_by(|a, b| a.same_resource(b));
        let verbs = [
            "create",
            "delete",
            "deletecollection",
            "get",
            "list",
            "patch",
            "update",
            "watch",
        ];
        let found = resources.into_iter().map(|resource| Discovered {
            resource,
            verbs: verbs.map(str::to_owned).to_vec(),
        });
        caches.set_catalog(found.collect());
        let mut nobody = |_, _| {};
        for (target, object) in &self.objects {
            if let Some(store) = caches.find(&target.resource) {
                store
                    .apply(&object.to_string(), self.now, &caches, &mut nobody)
                    .unwrap_or_else(|e| panic!("test object {target}: {e}"));
            }
        }
        caches
    }

    /// What the controller decides about one item.
    pub fn plan<R: Reconciler>(&self, reconciler: &R, key: &Key) -> Option<Plan> {
        self.plan_with(reconciler, key, &Answers::new())
    }

    /// What the controller decides once these questions are answered.
    pub fn plan_with<R: Reconciler>(
        &self,
        reconciler: &R,
        key: &Key,
        answers: &Answers,
    ) -> Option<Plan> {
        let caches = self.caches::<R>();
        let look = Look {
            caches: &caches,
            key,
            now: self.now,
            names: Names::new(self.seed),
            answers,
            failure: self.failure.as_ref(),
            since: self.since,
        };
        let observed = reconciler.observe(&look)?;
        Some(R::reconcile(&observed))
    }

    /// Carries out one action.
    ///
    /// # Errors
    /// As the API would refuse.
    pub fn apply(&mut self, action: &Action) -> Result<(), Refusal> {
        match action {
            Action::Create { target, object, .. } => {
                if self.objects.contains_key(target) {
                    return Err(Refusal::AlreadyExists);
                }
                let mut object = object.clone();
                self.uids += 1;
                object["metadata"]["uid"] = format!("made-{}", self.uids).into();
                object["metadata"]["creationTimestamp"] = self.now.to_string().into();
                object["metadata"]["generation"] = 1.into();
                self.store(target, object);
            }
            Action::Update { target, object, .. } => self.replace(target, object, false)?,
            Action::Patch {
                target,
                patch,
                subresource,
                ..
            } => self.patch(target, patch, *subresource)?,
            Action::Delete {
                target,
                uid,
                propagation,
                ..
            } => self.delete(target, uid, *propagation)?,
            Action::DeleteCollection {
                resource,
                namespace,
            } => {
                let hit = |t: &Target| {
                    t.resource.same_resource(resource) && t.key.namespace == *namespace
                };
                let targets: Vec<Target> =
                    self.objects.keys().filter(|t| hit(t)).cloned().collect();
                for target in targets {
                    let uid = self.objects[&target]["metadata"]["uid"].clone();
                    self.delete(&target, uid.as_str().unwrap_or_default(), None)?;
                }
            }
            Action::Touch {
                target,
                resource_version,
            } => {
                // Only what is the same as observed is written anew, and that comes to nothing but a version.
                if let Some(object) = self.objects.get(target).cloned()
                    && object["metadata"]["resourceVersion"] == **resource_version
                {
                    self.store(target, object);
                }
            }
            Action::Event(_) | Action::Confirm(_) => {}
        }
        Ok(())
    }

    /// Carries out a whole plan; refusals are what a race would be and are left out.
    pub fn apply_plan(&mut self, plan: &Plan) {
        self.since = plan.since;
        for action in &plan.actions {
            if self.apply(action).is_err() {
                break;
            }
        }
        if let Some(status) = &plan.status {
            let _ = self.replace(&status.target, &status.object, true);
        }
    }

    /// What the API would answer to the questions of a plan.
    pub fn answer(&self, plan: &Plan) -> Answers {
        let mut answers = Answers::new();
        for action in &plan.actions {
            let Action::Confirm(question) = action else {
                continue;
            };
            let answer = match question {
                Question::Get(target) => self
                    .objects
                    .get(target)
                    .map_or(Answer::Absent, |o| Answer::Present(o.clone())),
                Question::List {
                    resource,
                    namespace,
                } => Answer::Items(
                    self.objects
                        .iter()
                        .filter(|(t, _)| {
                            t.resource.same_resource(resource) && t.key.namespace == *namespace
                        })
                        .map(|(_, o)| json!({ "metadata": o["metadata"] }))
                        .collect(),
                ),
                Question::All(resource) => {
                    let own = self.objects.iter();
                    let own = own.filter(|(t, _)| t.resource.same_resource(resource));
                    let metadata = own.map(|(_, o)| json!({ "metadata": o["metadata"] }));
                    Answer::Items(metadata.collect())
                }
                Question::Latest(_) => Answer::Version(self.version.to_string()),
                Question::Access(_) => {
                    Answer::Present(json!({ "status": { "allowed": self.allows } }))
                }
            };
            answers.insert(question.clone(), answer);
        }
        answers
    }

    fn store(&mut self, target: &Target, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let meta = &object["metadata"];
        let finalized = |v: &Value| v.as_array().is_none_or(Vec::is_empty);
        let held = !finalized(&meta["finalizers"]) || !finalized(&object["spec"]["finalizers"]);
        if meta["deletionTimestamp"].is_string() && !held {
            self.objects.remove(target);
        } else {
            self.objects.insert(target.clone(), object);
        }
    }

    fn replace(&mut self, target: &Target, new: &Value, status: bool) -> Result<(), Refusal> {
        let old = self.objects.get(target).ok_or(Refusal::NotFound)?;
        let (old_meta, new_meta) = (&old["metadata"], &new["metadata"]);
        if old_meta["resourceVersion"] != new_meta["resourceVersion"]
            || old_meta["uid"] != new_meta["uid"]
        {
            return Err(Refusal::Conflict);
        }
        let mut object = if status { old.clone() } else { new.clone() };
        if status {
            object["status"] = new["status"].clone();
            // As in upstream, annotations and finalizers travel with the status.
            for field in ["annotations", "finalizers"] {
                object["metadata"][field] = new["metadata"][field].clone();
            }
        } else if old["spec"] != new["spec"] {
            let generation = old_meta["generation"].as_i64().unwrap_or(1);
            object["metadata"]["generation"] = (generation + 1).into();
        }
        self.store(target, object);
        Ok(())
    }

    fn patch(
        &mut self,
        target: &Target,
        patch: &Patch,
        subresource: Option<&str>,
    ) -> Result<(), Refusal> {
        let old = self.objects.get(target).ok_or(Refusal::NotFound)?;
        let body = patch.body();
        for precondition in ["uid", "resourceVersion"] {
            let wanted = &body["metadata"][precondition];
            if !wanted.is_null() && *wanted != old["metadata"][precondition] {
                return Err(Refusal::Conflict);
            }
        }
        let mut object = old.clone();
        match patch {
            Patch::Merge(body) => merge(&mut object, body),
            Patch::Strategic(body) => {
                let mut body = body.clone();
                remove_finalizers(&mut object, &mut body);
                merge(&mut object, &body);
            }
            Patch::Json(_) => panic!("no controller sends JSON patches"),
        }
        self.replace(target, &object, subresource == Some("status"))
    }

    fn delete(
        &mut self,
        target: &Target,
        uid: &str,
        propagation: Option<Propagation>,
    ) -> Result<(), Refusal> {
        let object = self.objects.get(target).ok_or(Refusal::NotFound)?;
        if object["metadata"]["uid"] != uid {
            return Err(Refusal::Conflict);
        }
        let mut object = object.clone();
        let meta = &mut object["metadata"];
        let extra = match propagation {
            Some(Propagation::Foreground) => Some("foregroundDeletion"),
            Some(Propagation::Orphan) => Some("orphan"),
            _ => None,
        };
        if let Some(extra) = extra {
            let finalizers = meta["finalizers"].as_array().cloned().unwrap_or_default();
            if !finalizers.iter().any(|f| f == extra) {
                let more = finalizers.into_iter().chain([extra.into()]);
                meta["finalizers"] = Value::Array(more.collect());
            }
        }
        if meta["deletionTimestamp"].is_null() {
            meta["deletionTimestamp"] = self.now.to_string().into();
        }
        self.store(target, object);
        Ok(())
    }
}

/// The one directive of strategic merge that controllers use.
fn remove_finalizers(object: &mut Value, patch: &mut Value) {
    let Some(meta) = patch["metadata"].as_object_mut() else {
        return;
    };
    let Some(gone) = meta.remove("$deleteFromPrimitiveList/finalizers") else {
        return;
    };
    let gone = gone.as_array().cloned().unwrap_or_default();
    if let Some(finalizers) = object["metadata"]["finalizers"].as_array_mut() {
        finalizers.retain(|f| !gone.contains(f));
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(map) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// The resource of an object: plural by English grammar, namespaced when it has a namespace.
fn resource_of(object: &Value) -> Resource {
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let kind = object["kind"].as_str().unwrap_or_default();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let lower = kind.to_lowercase();
    let plural = if lower == "endpoints" {
        lower
    } else if let Some(stem) = lower.strip_suffix('y') {
        format!("{stem}ies")
    } else if lower.ends_with('s') {
        format!("{lower}es")
    } else {
        format!("{lower}s")
    };
    Resource {
        group: group.to_owned().into(),
        version: version.to_owned().into(),
        plural: plural.into(),
        kind: kind.to_owned().into(),
        namespaced: object["metadata"]["namespace"].is_string(),
    }
}
