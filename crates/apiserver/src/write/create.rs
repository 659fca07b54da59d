//! Create: the road from a body to a new object.
//!
//! Behaviour: `k8s.io/apiserver/pkg/registry/rest/create.go`, `.../generic/registry/store.go` (`Create`).

use api::Part;
use http::Response;
use machinery::{ApiError, Object, names};
use rand::RngExt;
use uuid::Uuid;

use super::update::Ownership;
use super::{CommitError, WriteOptions, Written, commit_put_along, managed, written};
use crate::admit::{self, Operation};
use crate::allocate;
use crate::body::{Body, RequestBody};
use crate::call::Call;
use crate::charge;
use crate::decode;
use crate::resource::Resource;

/// How often a name or an address that somebody else took is replaced by another.
const TRIES: usize = 8;
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;

/// Answers POST on a resource.
pub(crate) async fn create(
    call: &Call,
    resource: &Resource,
    body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    let options = WriteOptions::parse(call)?;
    let mut object = decode::object(call, resource, body).await?;
    if resource.is_namespaced() && call.info.namespace.is_empty() {
        let why = "the server does not allow this method on the requested resource";
        return Err(ApiError::new(405, "MethodNotAllowed", why));
    }
    decode::check_namespace(call, resource, &mut object)?;
    let made = store_new(call, resource, object, &options, Ownership::Update).await?;
    written(call, resource, made)
}

/// Takes a decoded, defaulted object through the rest of the road.
pub(crate) async fn store_new(
    call: &Call,
    resource: &Resource,
    decoded: Object,
    options: &WriteOptions,
    ownership: Ownership,
) -> Result<Written, ApiError> {
    let mut object = decoded;
    // Nobody owns what only the server says.
    for key in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
        object.metadata_mut().remove(key);
    }
    if ownership == Ownership::Update {
        managed::track(call, resource, options, Part::Main, None, &mut object).await;
    }
    if let Some(why) = resource.kind.refuses_create() {
        let names = resource.names();
        let refused = ApiError::forbidden(names.group, names.plural, object.name(), why);
        return Err(refused);
    }
    let told = || options.told(call, "CreateOptions");
    let operation = Operation::create(call, resource).with_options(options.dry_run, told);
    admit::patience(&operation, &object).await?;
    if admit::mutate(&operation, &mut object, None).await? {
        decode::default(resource, &mut object)?;
    }
    // Whoever may change the object sees it without the name that it is going to be given, as upstream.
    let generated = object.name().is_empty() && !object.meta_str("generateName").is_empty();
    if !generated && !allocate::concerns(resource) {
        // Nothing of it but its name can be somebody else's already.
        return store_named(&operation, object, options)
            .await
            .map_err(given_up);
    }
    for attempt in 1..=TRIES {
        let mut named = object.clone();
        if generated {
            let name = names::generate_name(object.meta_str("generateName"), &name_suffix());
            named.set_meta_str("name", &name);
            // Some defaults say the name.
            decode::default(resource, &mut named)?;
        }
        let result = match store_named(&operation, named, options).await {
            Err(CommitError::Conflict | CommitError::Taken) if attempt < TRIES => continue,
            result => result.map_err(given_up),
        };
        let taken = matches!(&result, Err(error) if error.reason == "AlreadyExists");
        if !(taken && generated) {
            return result;
        }
        if attempt == TRIES {
            return result.map_err(|mut error| {
                error
                    .message
                    .push_str(", the server was not able to generate a unique name for the object");
                error
            });
        }
    }
    unreachable!("the loop above ends by itself")
}

/// A write that is not tried again.
fn given_up(error: CommitError) -> ApiError {
    match error {
        CommitError::Failed(error) => error,
        _ => ApiError::internal("the addresses and ports of the cluster are changing"),
    }
}

/// The rest of the road for an object with a name.
async fn store_named(
    operation: &Operation<'_>,
    mut object: Object,
    options: &WriteOptions,
) -> Result<Written, CommitError> {
    let (call, resource) = (operation.call(), operation.resource());
    prepare(call, resource, &mut object)?;
    let claim = allocate::for_write(call, resource, &mut object, None, options.dry_run).await?;
    // What is spelled out and says nothing is shown in errors, and not kept.
    validate(call, resource, &object)?;
    super::settle(resource, &mut object);
    admit::validate(operation, &object, None).await?;
    let storage = resource.storage("create")?;
    let key = resource.key(object.namespace(), object.name())?;
    // Nobody pays for what cannot be made.
    let first_look = options.dry_run || charge::concerns(operation, &object);
    if first_look && storage.cache.get(&key).is_some() {
        return Err(already_exists(resource, object.name()).into());
    }
    charge::charge(operation, &object, None, options.dry_run).await?;
    if options.dry_run {
        return Ok(Written {
            object: super::as_if_stored(call, resource, object).await?,
            created: true,
            stored: None,
        });
    }
    if !object.resource_version().is_empty() {
        let why = "resourceVersion should not be set on objects to be created";
        // As upstream: nobody has said that the request is to blame, and a dry run does not get as far as this.
        return Err(ApiError::new(500, "", why).into());
    }
    let along = claim.along(call, &object);
    match commit_put_along(call, resource, storage, &key, &mut object, 0, along).await {
        Ok(stored) => Ok(Written {
            object,
            created: true,
            stored,
        }),
        Err(CommitError::Conflict) => Err(already_exists(resource, object.name()).into()),
        Err(CommitError::Taken) => {
            claim.look_again(call).await?;
            Err(CommitError::Taken)
        }
        Err(failed) => Err(failed),
    }
}

fn already_exists(resource: &Resource, name: &str) -> ApiError {
    ApiError::already_exists(resource.names().group, resource.names().plural, name)
}

/// What the server owns is set by the server.
fn prepare(call: &Call, resource: &Resource, object: &mut Object) -> Result<(), ApiError> {
    let names = resource.names();
    let version = names.api_version();
    if object.api_version() != version || object.kind() != names.kind {
        object.set_type(&version, names.kind);
    }
    let metadata = object.metadata_mut();
    for key in [
        "selfLink",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ] {
        metadata.remove(key);
    }
    super::drop_empty(metadata);
    metadata.insert("uid".into(), new_uid().into());
    metadata.insert(
        "creationTimestamp".into(),
        machinery::time::rfc3339(call.now).into(),
    );
    if resource.kind.has_generation() {
        metadata.insert("generation".into(), 1.into());
    }
    for warning in resource.kind.unprepared_warnings(object) {
        call.warn(warning);
    }
    resource.kind.prepare_create(call.context(), object);
    Ok(())
}

fn validate(call: &Call, resource: &Resource, object: &Object) -> Result<(), ApiError> {
    let mut errors = api::meta::validate_object_meta(&*resource.kind, object);
    let own = resource.kind.validate_create(call.context(), object);
    errors.append(own.map_err(|error| decode::wrong_shape(resource, &error))?);
    if errors.is_empty() {
        for warning in resource.kind.warnings(object) {
            call.warn(warning);
        }
        return Ok(());
    }
    let names = resource.names();
    // What is stored as another thing is called that.
    let group = names.stored_as.map_or(names.group, |(group, _)| group);
    Err(ApiError::invalid(group, names.kind, object.name(), &errors))
}

/// A random UID.
pub(crate) fn new_uid() -> String {
    Uuid::new_v4().to_string()
}

/// The random end of a generated name.
pub(crate) fn name_suffix() -> String {
    let mut random = rand::rng();
    let letter = |_| char::from(SUFFIX_LETTERS[random.random_range(0..SUFFIX_LETTERS.len())]);
    (0..SUFFIX_LENGTH).map(letter).collect()
}
