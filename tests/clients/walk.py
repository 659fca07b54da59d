"""The Python client against a cluster: list, watch, apply, exec, logs, port-forward. Prints `done` at the end."""
import sys

from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import portforward, stream

namespace = sys.argv[1]
config.load_kube_config()
core = client.CoreV1Api()
apps = client.AppsV1Api()

# Server-side apply through the dynamic client, twice, and a conflict with another manager.
dyn = dynamic.DynamicClient(client.ApiClient())
maps = dyn.resources.get(api_version="v1", kind="ConfigMap")
body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"k": "1"}}
maps.server_side_apply(body=body, name="applied", namespace=namespace, field_manager="first")
again = maps.server_side_apply(body=body, name="applied", namespace=namespace, field_manager="first")
assert [m.manager for m in again.metadata.managedFields] == ["first"], again
body["data"]["k"] = "2"
try:
    maps.server_side_apply(body=body, name="applied", namespace=namespace, field_manager="second")
    raise AssertionError("no conflict")
except ApiException as error:
    assert error.status == 409, error
maps.server_side_apply(body=body, name="applied", namespace=namespace, field_manager="second", force_conflicts=True)
assert core.read_namespaced_config_map("applied", namespace).data == {"k": "2"}

# A watch that begins where a list ended sees what comes after it, in order.
listed = core.list_namespaced_config_map(namespace)
for number in range(3):
    metadata = client.V1ObjectMeta(name=f"made-{number}")
    core.create_namespaced_config_map(namespace, client.V1ConfigMap(metadata=metadata, data={}))
core.delete_namespaced_config_map("made-0", namespace)
seen = []
watcher = watch.Watch()
version = listed.metadata.resource_version
for event in watcher.stream(core.list_namespaced_config_map, namespace, resource_version=version, timeout_seconds=60):
    seen.append((event["type"], event["object"].metadata.name))
    if len(seen) == 4:
        watcher.stop()
expected = [("ADDED", "made-0"), ("ADDED", "made-1"), ("ADDED", "made-2"), ("DELETED", "made-0")]
assert seen == expected, seen

# A page at a time gives what one list gives.
names, following = [], None
while True:
    page = core.list_namespaced_config_map(namespace, limit=1, _continue=following)
    names += [item.metadata.name for item in page.items]
    following = page.metadata._continue
    if not following:
        break
whole = [item.metadata.name for item in core.list_namespaced_config_map(namespace).items]
assert names == whole and len(names) > 2, (names, whole)

# A pod: typed creation, a watch for readiness, exec with separate streams and an exit code, logs, port-forward.
container = client.V1Container(
    name="main", image="busybox", image_pull_policy="IfNotPresent",
    command=["sh", "-c", "echo up; mkdir /www; echo served > /www/index.html; exec httpd -f -p 8080 -h /www"])
spec = client.V1PodSpec(containers=[container], termination_grace_period_seconds=0)
core.create_namespaced_pod(namespace, client.V1Pod(metadata=client.V1ObjectMeta(name="py"), spec=spec))
for event in watcher.stream(core.list_namespaced_pod, namespace, field_selector="metadata.name=py", timeout_seconds=120):
    conditions = event["object"].status.conditions or []
    if any(c.type == "Ready" and c.status == "True" for c in conditions):
        watcher.stop()
command = ["sh", "-c", "read line; echo got $line; echo bad >&2; exit 3"]
shell = stream(core.connect_get_namespaced_pod_exec, "py", namespace, command=command, stdin=True, stdout=True,
               stderr=True, tty=False, _preload_content=False)
shell.write_stdin("words\n")
out, err = "", ""
while shell.is_open():
    shell.update(timeout=1)
    out += shell.read_stdout() if shell.peek_stdout() else ""
    err += shell.read_stderr() if shell.peek_stderr() else ""
assert (out, err, shell.returncode) == ("got words\n", "bad\n", 3), (out, err, shell.returncode)
assert core.read_namespaced_pod_log("py", namespace, _preload_content=False).data == b"up\n"
forward = portforward(core.connect_get_namespaced_pod_portforward, "py", namespace, ports="8080")
socket = forward.socket(8080)
socket.setblocking(True)
socket.sendall(b"GET / HTTP/1.0\r\n\r\n")
answer = b""
while chunk := socket.recv(4096):
    answer += chunk
assert b"served" in answer, answer

# A Deployment, patched and scaled with its own types.
labels = {"app": "py"}
template = client.V1PodTemplateSpec(metadata=client.V1ObjectMeta(labels=labels), spec=spec)
deployment = client.V1Deployment(
    metadata=client.V1ObjectMeta(name="py"),
    spec=client.V1DeploymentSpec(replicas=1, selector=client.V1LabelSelector(match_labels=labels), template=template))
apps.create_namespaced_deployment(namespace, deployment)
apps.patch_namespaced_deployment_scale("py", namespace, {"spec": {"replicas": 2}})
for event in watcher.stream(apps.list_namespaced_deployment, namespace, timeout_seconds=120):
    if event["object"].status.ready_replicas == 2:
        watcher.stop()
assert apps.read_namespaced_deployment("py", namespace).status.ready_replicas == 2
status = core.delete_namespaced_pod("py", namespace, grace_period_seconds=0)
assert status.metadata.name == "py", status
print("done")
