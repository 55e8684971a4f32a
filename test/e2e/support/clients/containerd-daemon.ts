// A containerd for the test alone: used by the containerd client, and by the Docker Engine.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Daemon, run } from '../processes.ts';

/** Plugins that need what a sandbox lacks, or that touch directories outside of ours. */
const DISABLED = [
  'io.containerd.grpc.v1.cri',
  'io.containerd.snapshotter.v1.aufs',
  'io.containerd.snapshotter.v1.btrfs',
  'io.containerd.snapshotter.v1.devmapper',
  'io.containerd.snapshotter.v1.zfs',
  'io.containerd.internal.v1.opt',
];

export interface Containerd {
  readonly daemon: Daemon;
  readonly address: string;
  /** Its content: `<algorithm>/<hex>`. */
  readonly blobs: string;
}

export async function startContainerd(directory: string): Promise<Containerd> {
  const address = join(directory, 'containerd.sock');
  const config = join(directory, 'containerd.toml');
  writeFileSync(
    config,
    `version = 2
root = "${directory}/root"
state = "${directory}/state"
disabled_plugins = ${JSON.stringify(DISABLED)}
[grpc]
  address = "${address}"
[ttrpc]
  address = "${address}.ttrpc"
`,
  );
  const daemon = await Daemon.start('containerd', ['--config', config], {
    ready: () =>
      run('ctr', ['--address', address, 'version']).then(
        () => true,
        () => false,
      ),
  });
  return { daemon, address, blobs: join(directory, 'root/io.containerd.content.v1.content/blobs') };
}
