//! The images of the walk-throughs, under the names that their manifests use.

use std::path::Path;

use crate::Image;

/// Starts a Redis slave of the service `redis-master`, found by DNS or by the environment.
const SLAVE_SCRIPT: &str = r#"#!/bin/sh
if [ "${GET_HOSTS_FROM:-dns}" = env ]; then
  exec redis-server --replicaof "$REDIS_MASTER_SERVICE_HOST" 6379 --protected-mode no
fi
exec redis-server --replicaof redis-master 6379 --protected-mode no
"#;

/// A shell with the usual commands.
///
/// # Errors
/// Debian's `busybox-static` is not installed.
pub fn busybox() -> anyhow::Result<Image> {
    Ok(Image::new("docker.io/library/busybox:latest")
        .busybox()?
        .command(&["sh"]))
}

/// `redis`: the master of the Guestbook.
///
/// # Errors
/// Debian's `redis-server` or `busybox-static` is not installed.
pub fn redis_master() -> anyhow::Result<Image> {
    let server = redis("docker.io/library/redis:latest")?;
    Ok(server.entrypoint(&["redis-server", "--protected-mode", "no"]))
}

/// The Guestbook's slave.
///
/// # Errors
/// Debian's `redis-server` or `busybox-static` is not installed.
pub fn redis_slave() -> anyhow::Result<Image> {
    let slave = redis("docker.io/1879324764/hjl-redisslave:v1")?;
    Ok(slave
        .script("run.sh", SLAVE_SCRIPT)
        .entrypoint(&["/run.sh"]))
}

fn redis(name: &str) -> anyhow::Result<Image> {
    let image = Image::new(name).busybox()?;
    let image = image.program(Path::new("/usr/bin/redis-server"), "usr/bin/redis-server")?;
    image.program(Path::new("/usr/bin/redis-cli"), "usr/bin/redis-cli")
}

/// The Guestbook's front end; `program` is the built `demo-app`.
///
/// # Errors
/// The program cannot be read.
pub fn guestbook_frontend(program: &Path) -> anyhow::Result<Image> {
    let image = Image::new("docker.io/1879324764/hjl-frontend:v3").busybox()?;
    Ok(image
        .program(program, "demo-app")?
        .entrypoint(&["/demo-app", "guestbook"]))
}

/// hello-world in a version; `program` is the built `demo-app`.
///
/// # Errors
/// The program cannot be read.
pub fn hello_world(program: &Path, version: u32) -> anyhow::Result<Image> {
    let name = format!("registry.hnaresearch.com/public/hello-world:v{version}.0");
    let image = Image::new(&name).busybox()?.program(program, "demo-app")?;
    Ok(match version {
        1 => image.entrypoint(&["/demo-app", "hello"]),
        _ => image.entrypoint(&["/demo-app", "hello", "--release", &format!("v{version}")]),
    })
}
