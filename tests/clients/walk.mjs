// The JavaScript client against a cluster: list, watch, apply, exec, logs, attach, port-forward. Prints `done` at the end.
import assert from 'node:assert/strict';
import net from 'node:net';
import { PassThrough } from 'node:stream';
import * as k8s from '@kubernetes/client-node';

const namespace = process.argv[2];
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const objects = k8s.KubernetesObjectApi.makeApiClient(config);

function collect(stream) {
  const chunks = [];
  stream.on('data', (chunk) => chunks.push(chunk));
  return () => Buffer.concat(chunks).toString();
}

// Server-side apply, twice, and a conflict with another manager.
const map = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'applied', namespace }, data: { k: '1' } };
const apply = (manager, force) =>
  objects.patch(map, undefined, undefined, manager, force, k8s.PatchStrategy.ServerSideApply);
await apply('first');
await apply('first');
map.data.k = '2';
await assert.rejects(apply('second'), (error) => error.code === 409);
const forced = await apply('second', true);
assert.deepEqual(forced.data, { k: '2' });

// A watch that begins where a list ended.
const listed = await core.listNamespacedConfigMap({ namespace });
const seen = [];
const watched = new Promise((resolve, reject) => {
  const options = { resourceVersion: listed.metadata.resourceVersion };
  const note = (type, object) => {
    seen.push(`${type} ${object.metadata.name}`);
    if (seen.length === 3) resolve();
  };
  new k8s.Watch(config)
    .watch(`/api/v1/namespaces/${namespace}/configmaps`, options, note, (error) => error && reject(error))
    .then((request) => watched.finally(() => request.abort()).catch(() => {}));
});
await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'js' } } });
const merge = k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch);
await core.patchNamespacedConfigMap({ name: 'js', namespace, body: { data: { a: 'b' } } }, merge);
await core.deleteNamespacedConfigMap({ name: 'js', namespace });
await watched;
assert.deepEqual(seen, ['ADDED js', 'MODIFIED js', 'DELETED js']);

// A pod that becomes ready, seen by an informer.
const script = 'echo up; mkdir /www; echo served > /www/index.html; exec httpd -f -p 8080 -h /www';
const pod = {
  metadata: { name: 'js' },
  spec: {
    terminationGracePeriodSeconds: 0,
    containers: [{ name: 'main', image: 'busybox', imagePullPolicy: 'IfNotPresent', command: ['sh', '-c', script] }],
  },
};
const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/pods`, () =>
  core.listNamespacedPod({ namespace }));
const ready = new Promise((resolve, reject) => {
  const look = (found) => {
    const conditions = found.status?.conditions ?? [];
    if (conditions.some((c) => c.type === 'Ready' && c.status === 'True')) resolve();
  };
  informer.on('add', look);
  informer.on('update', look);
  informer.on('error', reject);
});
await informer.start();
await core.createNamespacedPod({ namespace, body: pod });
await ready;
await informer.stop();

// exec with separate streams, standard input and an exit code.
const [out, err, input] = [new PassThrough(), new PassThrough(), new PassThrough()];
const [said, complained] = [collect(out), collect(err)];
const command = ['sh', '-c', 'read line; echo got $line; echo bad >&2; exit 3'];
const status = await new Promise((resolve, reject) => {
  new k8s.Exec(config)
    .exec(namespace, 'js', 'main', command, out, err, input, false, resolve)
    .then(() => input.write('words\n'), reject);
});
assert.equal(status.status, 'Failure');
assert.equal(status.details.causes[0].message, '3');
assert.equal(said(), 'got words\n');
assert.equal(complained(), 'bad\n');

assert.equal(await core.readNamespacedPodLog({ name: 'js', namespace }), 'up\n');

// port-forward through a server of our own.
const forward = new k8s.PortForward(config);
const server = net.createServer((socket) => forward.portForward(namespace, 'js', [8080], socket, null, socket));
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const answer = await fetch(`http://127.0.0.1:${server.address().port}/`);
assert.equal(await answer.text(), 'served\n');
server.close();

await core.deleteNamespacedPod({ name: 'js', namespace });
console.log('done');
process.exit(0);
