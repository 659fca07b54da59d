//! What a namespace holds and asks for stays within its quotas.
//!
//! Not one of the table's plug-ins: its last word is a write to the quotas, which the server makes before it makes the
//! write that was asked for. [`counted`] says whether quotas are about a request at all, [`charge`] what it costs them.
//! Behaviour: `k8s.io/apiserver/pkg/admission/plugin/resourcequota`.

use api::quota::{self, Amounts, Counted, Item};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceQuota;
use machinery::quantity::Quantity;
use machinery::{ApiError, Object};

use super::limited_resources::{self, Use};
use super::{Operation, Request};

/// The resource that quotas count when this request is carried out.
pub fn counted(request: &Request) -> Option<Counted> {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    let inside = !request.namespace.is_empty() && request.resource != "namespaces";
    let chosen = !request.settings.without.contains("ResourceQuota");
    Counted::new(request.group, request.resource).filter(|_| writes && inside && chosen)
}

/// Whether what the request asks for may be used only where a quota says how much.
pub fn limits_by_default(request: &Request) -> bool {
    !limited_resources::about(request).is_empty()
}

/// A quota, and what is used of it.
#[derive(Clone, Debug)]
pub struct Account {
    /// The quota as it is stored.
    pub quota: ResourceQuota,
    hard: Amounts,
    used: Amounts,
}

impl Account {
    /// The account of a quota; its limits are those that its controller has taken note of.
    pub fn of(quota: ResourceQuota) -> Self {
        let status = quota.status.clone().unwrap_or_default();
        Self {
            hard: quota::amounts(status.hard.as_ref()),
            used: quota::amounts(status.used.as_ref()),
            quota,
        }
    }

    /// The resources of this kind of object that the quota limits.
    fn limited(&self, counted: &Counted) -> Vec<&str> {
        let names = self.hard.keys().map(String::as_str);
        names.filter(|name| counted.measures(name)).collect()
    }
}

/// What the request costs the quotas: those whose usage changes, as they are to be written.
///
/// # Errors
/// 403: a quota is exceeded, or cannot tell.
pub fn charge(
    request: &Request,
    counted: &Counted,
    object: &Object,
    accounts: Vec<Account>,
    now: Timestamp,
) -> Result<Vec<ResourceQuota>, ApiError> {
    let Some(new) = counted.item(object) else {
        return Ok(Vec::new());
    };
    let old = request.old.and_then(|old| counted.item(old));
    let old = old.filter(|_| request.operation == Operation::Update);
    if !counted.is_touched(request.subresource, &new, old.as_ref()) {
        return Ok(Vec::new());
    }
    let quotas: Vec<ResourceQuota> = accounts.iter().map(|a| a.quota.clone()).collect();
    let covering = covering(request, counted, object, &new, accounts)?;
    let usage = counted.usage(&new, now);
    if limits_by_default(request) {
        let mut more = usage.clone();
        let before = old.as_ref().map(|old| counted.usage(old, now));
        for (name, amount) in before.iter().flatten() {
            more.entry(name.clone()).or_default().sub(amount);
        }
        let limited = covering.iter().flat_map(|account| account.limited(counted));
        let limited = limited.map(str::to_owned).collect();
        let new = Use {
            counted,
            object,
            item: &new,
            more: &more,
        };
        new.check(request, &quotas, &limited)?;
    }
    let negative: Vec<&str> = usage
        .iter()
        .filter(|(_, amount)| amount.signum() < 0)
        .map(|(name, _)| name.as_str())
        .collect();
    if !negative.is_empty() {
        let why = format!(
            "quota usage is negative for resource(s): {}",
            negative.join(",")
        );
        return Err(request.forbidden(object, why));
    }
    let mut charged = Vec::new();
    for mut account in covering {
        let before = old
            .as_ref()
            .filter(|old| counted.is_covered(old, &account.quota, &account.hard))
            .map(|old| counted.usage(old, now));
        let cost = cost(&usage, before.as_ref(), &account);
        if cost.is_empty() {
            continue;
        }
        if let Some(why) = exceeds(&account, &cost).filter(|_| request.subresource != "status") {
            return Err(request.forbidden(object, why));
        }
        quota::add(&mut account.used, &cost);
        let status = account.quota.status.get_or_insert_default();
        status.used = Some(quota::texts(&account.used));
        charged.push(account.quota);
    }
    Ok(charged)
}

/// The quotas that are about the object.
fn covering(
    request: &Request,
    counted: &Counted,
    object: &Object,
    item: &Item,
    accounts: Vec<Account>,
) -> Result<Vec<Account>, ApiError> {
    let mut covering = Vec::new();
    for account in accounts {
        if !counted.is_covered(item, &account.quota, &account.hard) {
            continue;
        }
        let limited = account.limited(counted);
        let name = account.quota.metadata.name.clone().unwrap_or_default();
        if let Some(why) = counted.shortfall(item, &limited) {
            return Err(request.forbidden(object, format!("failed quota: {name}: {why}")));
        }
        if limited.iter().any(|name| !account.used.contains_key(*name)) {
            let why = format!(
                "status unknown for quota: {name}, resources: {}",
                limited.join(",")
            );
            return Err(request.forbidden(object, why));
        }
        covering.push(account);
    }
    Ok(covering)
}

/// What is used more than before of what the quota limits.
fn cost(usage: &Amounts, before: Option<&Amounts>, account: &Account) -> Amounts {
    let more = |(name, amount): (&String, &Quantity)| {
        let mut more = amount.clone();
        if let Some(before) = before.and_then(|before| before.get(name)) {
            more.sub(before);
        }
        (more.signum() > 0).then(|| (name.clone(), more))
    };
    let limited = usage
        .iter()
        .filter(|(name, _)| account.hard.contains_key(*name));
    limited.filter_map(more).collect()
}

/// What is wrong when the cost is more than what is left.
fn exceeds(account: &Account, cost: &Amounts) -> Option<String> {
    let is_over = |(name, amount): &(&String, &Quantity)| {
        let mut total = account.used.get(*name).cloned().unwrap_or_default();
        total.add(amount);
        account.hard.get(*name).is_some_and(|hard| total > *hard)
    };
    let over: Vec<&String> = cost.iter().filter(is_over).map(|(name, _)| name).collect();
    if over.is_empty() {
        return None;
    }
    let show = |amounts: &Amounts| -> String {
        let shown = over.iter().filter_map(|name| {
            let amount = amounts.get(*name)?;
            Some(format!("{name}={amount}"))
        });
        shown.collect::<Vec<_>>().join(",")
    };
    let name = account.quota.metadata.name.clone().unwrap_or_default();
    Some(format!(
        "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
        show(cost),
        show(&account.used),
        show(&account.hard)
    ))
}
