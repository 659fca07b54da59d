//! PriorityLevelConfiguration: how many requests of a kind of importance may be at work at a time, and how others wait.
//!
//! Upstream: `pkg/registry/flowcontrol/prioritylevelconfiguration`, `pkg/apis/flowcontrol/{v1,validation}`.

use jiff::Timestamp;
use k8s_openapi::api::flowcontrol::v1::{
    LimitResponse, LimitedPriorityLevelConfiguration, PriorityLevelConfiguration as Typed,
    PriorityLevelConfigurationSpec, QueuingConfiguration,
};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};
use serde_json::Value;

use crate::check;
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};
use crate::view::{Items, OrEmpty, fill_with};

/// The level without any limit.
pub const EXEMPT: &str = "exempt";
/// The level of what no flow schema takes.
pub const CATCH_ALL: &str = "catch-all";
const MAX_QUEUES: i32 = 10_000_000;
/// What shuffle sharding may consume of a hash.
const MAX_HASH_BITS: u32 = 60;

/// The kind `PriorityLevelConfiguration`.
pub struct PriorityLevelConfiguration;

impl Kind for PriorityLevelConfiguration {
    type Object = Typed;
    const NAMES: Names = Names::new(
        "flowcontrol.apiserver.k8s.io",
        "v1",
        "PriorityLevelConfiguration",
        "prioritylevelconfigurations",
        "prioritylevelconfiguration",
    );
    const SCOPE: Scope = Scope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Part(Part::Status)];
    const STATUS_RESETS: &'static [&'static [&'static str]] = crate::kind::METADATA_AND_SPEC;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "Type",
            "`type` indicates whether this priority level is subject to \
                               limitation on request execution.  A value of `\"Exempt\"` means that \
                               requests of this priority level are not subject to a limit (and thus \
                               are never queued) and do not detract from the capacity made \
                               available to other priority levels.  A value of `\"Limited\"` means \
                               that (a) requests of this priority level _are_ subject to limits and \
                               (b) some of the server's limited capacity is made available \
                               exclusively to this priority level. Required.",
        ),
        columns::text(
            "NominalConcurrencyShares",
            "`nominalConcurrencyShares` (NCS) contributes to the computation of the \
                     NominalConcurrencyLimit (NominalCL) of this level. This is the number of \
                     execution seats available at this priority level. This is used both for \
                     requests dispatched from this priority level as well as requests dispatched \
                     from other priority levels borrowing seats from this level. The server's \
                     concurrency limit (ServerCL) is divided among the Limited priority levels in \
                     proportion to their NCS values:

NominalCL(i)  = ceil( ServerCL * NCS(i) / \
                     sum_ncs ) sum_ncs = sum[priority level k] NCS(k)

Bigger numbers mean a larger \
                     nominal concurrency limit, at the expense of every other priority level.

If \
                     not specified, this field defaults to a value of 30.

Setting this field to \
                     zero supports the construction of a \"jail\" for this priority level that is \
                     used to hold some request(s)",
        ),
        columns::text(
            "Queues",
            "`queues` is the number of queues for this priority level. The \
                                 queues exist independently at each apiserver. The value must be \
                                 positive.  Setting it to 1 effectively precludes shufflesharding \
                                 and thus makes the distinguisher method of associated flow schemas \
                                 irrelevant.  This field has a default value of 64.",
        ),
        columns::text(
            "HandSize",
            "`handSize` is a small positive number that configures the \
                                   shuffle sharding of requests into queues.  When enqueuing a \
                                   request at this priority level the request's flow identifier (a \
                                   string pair) is hashed and the hash value is used to shuffle the \
                                   list of queues and deal a hand of the size specified here.  The \
                                   request is put into one of the shortest queues in that hand. \
                                   `handSize` must be no larger than `queues`, and should be \
                                   significantly smaller (so that a few heavy flows do not saturate \
                                   most of the queues).  See the user-facing documentation for more \
                                   extensive guidance on setting this field.  This field has a \
                                   default value of 8.",
        ),
        columns::text(
            "QueueLengthLimit",
            "`queueLengthLimit` is the maximum number of requests allowed to be waiting in \
                     a given queue of this priority level at a time; excess requests are rejected.  \
                     This value must be positive.  If not specified, it will be defaulted to 50.",
        ),
        columns::AGE,
    ];
    const HAS_GENERATION: bool = true;

    fn default(object: &mut Typed) {
        let spec = &mut object.spec;
        if let Some(exempt) = &mut spec.exempt {
            fill_with(&mut exempt.nominal_concurrency_shares, 0);
            fill_with(&mut exempt.lendable_percent, 0);
        }
        let Some(limited) = &mut spec.limited else {
            return;
        };
        fill_with(&mut limited.nominal_concurrency_shares, 30);
        fill_with(&mut limited.lendable_percent, 0);
        if let Some(queuing) = &mut limited.limit_response.queuing {
            for (slot, value) in [
                (&mut queuing.hand_size, 8),
                (&mut queuing.queues, 64),
                (&mut queuing.queue_length_limit, 50),
            ] {
                if slot.unwrap_or(0) == 0 {
                    *slot = Some(value);
                }
            }
        }
    }

    fn prepare_create(_context: &Context, new: &mut Object) {
        kind::set_or_remove(new, "status", Some(Value::Object(serde_json::Map::new())));
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = validate(new);
        errors.append(conditions(new));
        errors
    }

    fn validate_update(_context: &Context, part: Part, new: &Typed, _old: &Typed) -> ErrorList {
        let mut errors = match part {
            Part::Status => ErrorList::new(),
            _ => validate(new),
        };
        errors.append(conditions(new));
        errors
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let none = || Value::from("<none>");
        let shown = |number: Option<i32>| Value::from(number.unwrap_or(0));
        let spec = &object.spec;
        let limited = spec.limited.as_ref();
        let queuing = limited.and_then(|l| l.limit_response.queuing.as_ref());
        let of_queuing = |number: fn(&QueuingConfiguration) -> Option<i32>| {
            queuing.map_or_else(none, |q| shown(number(q)))
        };
        Row::from(vec![
            tree.name().into(),
            spec.type_.as_str().into(),
            limited.map_or_else(none, |l| shown(l.nominal_concurrency_shares)),
            of_queuing(|q| q.queues),
            of_queuing(|q| q.hand_size),
            of_queuing(|q| q.queue_length_limit),
            kind::age(tree, now).into(),
        ])
    }
}

fn conditions(object: &Typed) -> ErrorList {
    let status = object.status.as_ref();
    let conditions = status.map_or(&[][..], |s| s.conditions.items());
    super::condition_types(conditions.iter().map(|c| c.type_.as_str()))
}

fn validate(object: &Typed) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = &object.spec;
    let name = object.metadata.name.text();
    let path = Path::new("spec");
    let kind = spec.type_.as_str();
    let at = path.child("type");
    if (name == EXEMPT) != (kind == "Exempt") {
        let why = "must be 'Exempt' if and only if `name` is 'exempt'";
        errors.invalid(&at, kind, why);
    }
    match kind {
        "Exempt" => validate_exempt(&mut errors, &path, spec),
        "Limited" => {
            if spec.exempt.is_some() {
                errors.forbidden(&path.child("exempt"), "");
            }
            let path = path.child("limited");
            match &spec.limited {
                None => errors.required(&path, ""),
                Some(limited) => validate_limited(&mut errors, &path, limited),
            }
        }
        // A part that belongs to no type.
        other => {
            if !other.is_empty() {
                errors.not_supported(&at, kind, &["Exempt", "Limited"]);
            }
            if spec.limited.is_some() {
                errors.forbidden(&path.child("limited"), "");
            }
            if other.is_empty() {
                errors.required(&at, "");
            }
        }
    }
    if name == CATCH_ALL && !is_catch_all(spec) {
        let why = "spec of 'catch-all' must equal the fixed value";
        errors.invalid(&path, check::json(spec), why);
    }
    errors
}

fn is_catch_all(spec: &PriorityLevelConfigurationSpec) -> bool {
    let fixed = PriorityLevelConfigurationSpec {
        type_: "Limited".to_owned(),
        limited: Some(LimitedPriorityLevelConfiguration {
            nominal_concurrency_shares: Some(5),
            lendable_percent: Some(0),
            limit_response: LimitResponse {
                type_: "Reject".to_owned(),
                queuing: None,
            },
            borrowing_limit_percent: None,
        }),
        exempt: None,
    };
    check::same(spec, &fixed)
}

fn validate_exempt(errors: &mut ErrorList, path: &Path, spec: &PriorityLevelConfigurationSpec) {
    if spec.limited.is_some() {
        let why = "must be nil if the type is not Limited";
        errors.forbidden(&path.child("limited"), why);
    }
    if let Some(exempt) = &spec.exempt {
        let path = path.child("exempt");
        shares(errors, &path, exempt.nominal_concurrency_shares);
        lendable(errors, &path, exempt.lendable_percent);
    }
}

fn shares(errors: &mut ErrorList, path: &Path, shares: Option<i32>) {
    if let Some(shares) = shares.filter(|s| *s < 0) {
        let why = "must be a non-negative integer";
        errors.invalid(&path.child("nominalConcurrencyShares"), shares, why);
    }
}

fn lendable(errors: &mut ErrorList, path: &Path, percent: Option<i32>) {
    if let Some(percent) = percent.filter(|p| !(0..=100).contains(p)) {
        let why = "must be between 0 and 100, inclusive";
        errors.invalid(&path.child("lendablePercent"), percent, why);
    }
}

fn validate_limited(
    errors: &mut ErrorList,
    path: &Path,
    limited: &LimitedPriorityLevelConfiguration,
) {
    shares(errors, path, limited.nominal_concurrency_shares);
    validate_response(
        errors,
        &path.child("limitResponse"),
        &limited.limit_response,
    );
    lendable(errors, path, limited.lendable_percent);
    if let Some(percent) = limited.borrowing_limit_percent.filter(|p| *p < 0) {
        let why = "if specified, must be a non-negative integer";
        errors.invalid(&path.child("borrowingLimitPercent"), percent, why);
    }
}

fn validate_response(errors: &mut ErrorList, path: &Path, response: &LimitResponse) {
    let at = path.child("queuing");
    match (response.type_.as_str(), &response.queuing) {
        ("Reject", Some(_)) => {
            errors.forbidden(&at, "");
        }
        ("Reject", None) => {}
        ("Queue", None) => {
            let why = "must not be empty if limited.limitResponse.type is Limited";
            errors.required(&at, why);
        }
        ("Queue", Some(queuing)) => validate_queuing(errors, &at, queuing),
        ("", _) => errors.required(&path.child("type"), ""),
        (other, _) => errors.not_supported(&path.child("type"), other, &["Queue", "Reject"]),
    }
}

fn validate_queuing(errors: &mut ErrorList, path: &Path, queuing: &QueuingConfiguration) {
    let number = |slot: Option<i32>| slot.unwrap_or(0);
    let limit = number(queuing.queue_length_limit);
    if limit <= 0 {
        errors.invalid(&path.child("queueLengthLimit"), limit, "must be positive");
    }
    let (queues, hand) = (number(queuing.queues), number(queuing.hand_size));
    let at = path.child("queues");
    if queues <= 0 {
        errors.invalid(&at, queues, "must be positive");
    } else if queues > MAX_QUEUES {
        let why = format!("must not be greater than {MAX_QUEUES}");
        errors.invalid(&at, queues, why);
    }
    let at = path.child("handSize");
    if hand <= 0 {
        errors.invalid(&at, hand, "must be positive");
    } else if hand > queues {
        let why = format!("should not be greater than queues ({queues})");
        errors.invalid(&at, hand, why);
    } else {
        let bits = entropy_bits(queues, hand);
        if bits > MAX_HASH_BITS {
            let why = format!(
                "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {MAX_HASH_BITS}"
            );
            errors.invalid(&at, hand, why);
        }
    }
}

/// How much of a hash it takes to deal a hand: one draw of each smaller deck.
fn entropy_bits(queues: i32, hand: i32) -> u32 {
    let per_card = f64::from(queues).log2();
    // A hand of a few cards: far from what a number of bits cannot count.
    (per_card * f64::from(hand)).ceil() as u32
}
