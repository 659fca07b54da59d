//! Expressions that select devices: CEL over one variable, `device`.
//!
//! Upstream: `k8s.io/dynamic-resource-allocation/cel`.

use std::sync::OnceLock;

use k8s_openapi::api::resource::v1::DeviceSelector;
use machinery::cel::{Program, Type, Variable};
use machinery::structural::Structural;
use machinery::{ErrorList, Path};
use serde_json::json;

use super::parts;

const SELECTORS_MAX: usize = 32;
const EXPRESSION_MAX: usize = 10 * 1024;

/// The selectors of a class or a request; `stored`: they are there already and were fine then.
pub(super) fn selectors(
    errors: &mut ErrorList,
    path: &Path,
    list: &[DeviceSelector],
    stored: bool,
) {
    parts::each(
        errors,
        path,
        list,
        SELECTORS_MAX,
        |errors, at, selector| match &selector.cel {
            None => errors.required(&at.child("cel"), ""),
            Some(_) if stored => {}
            Some(cel) => expression(
                errors,
                &at.child("cel").child("expression"),
                &cel.expression,
            ),
        },
    );
}

fn expression(errors: &mut ErrorList, path: &Path, text: &str) {
    if text.len() > EXPRESSION_MAX {
        return errors.too_long(path, EXPRESSION_MAX);
    }
    let device = Variable {
        name: "device",
        ty: Type::Object(device()),
    };
    let detail = match Program::compile(text, &[device]) {
        Ok((_, Type::Bool | Type::Dyn)) => return,
        Ok(_) => "must evaluate to bool or the unknown type".to_owned(),
        Err(why) => format!("compilation failed: {why}"),
    };
    errors.invalid(path, text, detail);
}

/// What is known of a device: its driver, and by domain its attributes and capacities, whose types only a device tells.
fn device() -> &'static Structural {
    static DEVICE: OnceLock<Structural> = OnceLock::new();
    DEVICE.get_or_init(|| {
        let open = json!({"x-kubernetes-preserve-unknown-fields": true});
        let by_name = json!({"type": "object", "additionalProperties": open});
        let by_domain = json!({"type": "object", "additionalProperties": by_name});
        Structural::read(&json!({
            "type": "object",
            "properties": {
                "driver": {"type": "string"},
                "allowMultipleAllocations": {"type": "boolean"},
                "attributes": by_domain,
                "capacity": by_domain,
            },
        }))
    })
}
