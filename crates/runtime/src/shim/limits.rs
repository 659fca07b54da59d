//! A container's limits and devices, written into its cgroup.

use std::path::Path;

use linux::cgroup::Cgroup;
use linux::{Context, Result};
use oci::ContainerPlan;
use oci::limits::Write;

/// Writes all limits and, unless the container is privileged, the device rules of version 1.
pub(super) fn limit(cgroup: &Cgroup, plan: &ContainerPlan) -> Result<()> {
    let mut writes = match cgroup.is_v2() {
        true => oci::limits::v2(&plan.limits),
        false => oci::limits::v1(&plan.limits),
    };
    if !cgroup.is_v2() && !plan.privileged {
        writes.extend(oci::limits::v1_device_rules());
        for device in &plan.devices {
            writes.extend(device_rule(device)?);
        }
    }
    apply(cgroup, &writes)?;
    match cgroup.open()? {
        Some(group) if !plan.privileged => {
            linux::device_filter::restrict(group, &device_filter(plan)?)
        }
        _ => Ok(()),
    }
}

/// The same rules for version 2.
fn device_filter(plan: &ContainerPlan) -> Result<Vec<linux::device_filter::Rule>> {
    let mut writes = oci::limits::v1_device_rules();
    for device in &plan.devices {
        writes.extend(device_rule(device)?);
    }
    let rules = writes
        .iter()
        .filter_map(|write| oci::limits::parse_device_rule(&write.value));
    let rules = rules.map(|rule| linux::device_filter::Rule {
        block: rule.block,
        major: rule.major,
        minor: rule.minor,
        read: rule.permissions.contains('r'),
        write: rule.permissions.contains('w'),
        mknod: rule.permissions.contains('m'),
    });
    Ok(rules.collect())
}

/// Writes cgroup files; those that a machine may lack are left out there.
pub(crate) fn apply(cgroup: &Cgroup, writes: &[Write]) -> Result<()> {
    for write in writes {
        if let Err(error) = cgroup.write(&write.controller, &write.file, &write.value)
            && !write.optional
        {
            return Err(error);
        }
    }
    Ok(())
}

fn device_rule(device: &oci::limits::Device) -> Result<Option<Write>> {
    use rustix::fs::FileType;
    let path = Path::new(&device.host_path);
    let stat = rustix::fs::stat(path).context(|| format!("look at {}", path.display()))?;
    let block = match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => true,
        FileType::CharacterDevice => false,
        _ => return Ok(None),
    };
    let (major, minor) = (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    );
    Ok(Some(oci::limits::v1_device_rule(
        block,
        major,
        minor,
        &device.permissions,
    )))
}
