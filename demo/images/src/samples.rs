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

/// An operator, and webhooks whose paths say what they answer; `program` is the built `operator-demo`.
///
/// # Errors
/// The program cannot be read.
pub fn operator(program: &Path) -> anyhow::Result<Image> {
    let image = Image::new("docker.io/oxikube/operator-demo:v1");
    Ok(image
        .program(program, "operator-demo")?
        .entrypoint(&["/operator-demo"]))
}

/// A web server under nginx's name in a version of the walk-throughs: a page that says the version, on port 80.
///
/// # Errors
/// Debian's `busybox-static` is not installed.
pub fn nginx(version: &str) -> anyhow::Result<Image> {
    let image = Image::new(&format!("docker.io/library/nginx:{version}")).busybox()?;
    Ok(image
        .text("www/index.html", &format!("nginx {version}\n"))
        .entrypoint(&["httpd", "-f", "-p", "80", "-h", "/www"]))
}

/// Says which pod it is.
const KUBIA_SCRIPT: &str = r#"#!/bin/sh
echo "Received request from $REMOTE_ADDR" >> /proc/1/fd/1
printf 'Content-Type: text/plain\r\n\r\nYou have hit %s\n' "$(hostname)"
"#;

/// Is well for five requests.
const UNHEALTHY_SCRIPT: &str = r#"#!/bin/sh
echo request >> /tmp/requests
if [ "$(wc -l < /tmp/requests)" -gt 5 ]; then
  printf 'Status: 500 Internal Server Error\r\n\r\nI am not well. Please restart me!\n'
else
  printf 'Content-Type: text/plain\r\n\r\nYou have hit %s\n' "$(hostname)"
fi
"#;

/// `luksa/kubia`: tells its host name on port 8080.
///
/// # Errors
/// Debian's `busybox-static` is not installed.
pub fn kubia() -> anyhow::Result<Image> {
    answering("docker.io/luksa/kubia:latest", KUBIA_SCRIPT)
}

/// `luksa/kubia-unhealthy`: the same, with errors after five requests.
///
/// # Errors
/// Debian's `busybox-static` is not installed.
pub fn kubia_unhealthy() -> anyhow::Result<Image> {
    answering("docker.io/luksa/kubia-unhealthy:latest", UNHEALTHY_SCRIPT)
}

fn answering(name: &str, script: &str) -> anyhow::Result<Image> {
    Ok(Image::new(name)
        .busybox()?
        .script("www/cgi-bin/index.cgi", script)
        .entrypoint(&[
            "sh",
            "-c",
            "echo Kubia server starting...; exec httpd -f -p 8080 -h /www",
        ]))
}

/// `luksa/batch-job`: works for two seconds.
///
/// # Errors
/// Debian's `busybox-static` is not installed.
pub fn batch_job() -> anyhow::Result<Image> {
    let script = "echo Batch job starting; sleep 2; echo Finished succesfully";
    Ok(Image::new("docker.io/luksa/batch-job:latest")
        .busybox()?
        .entrypoint(&["sh", "-c", script]))
}

/// `luksa/ssd-monitor`: says every five seconds that all is well.
///
/// # Errors
/// Debian's `busybox-static` is not installed.
pub fn ssd_monitor() -> anyhow::Result<Image> {
    let script = "while true; do echo SSD OK; sleep 5; done";
    Ok(Image::new("docker.io/luksa/ssd-monitor:latest")
        .busybox()?
        .entrypoint(&["sh", "-c", script]))
}
