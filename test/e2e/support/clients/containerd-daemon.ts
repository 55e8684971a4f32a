// A containerd of the test's own: for the containerd client, and below the Docker Engine.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Daemon, run } from '../processes.ts';

/** Plugins that need what a sandbox has not, or that touch folders which are not ours. */
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
  /** Where it keeps content: `<algorithm>/<hex>`. */
  readonly blobs: string;
}

export async function startContainerd(folder: string): Promise<Containerd> {
  const address = join(folder, 'containerd.sock');
  const config = join(folder, 'containerd.toml');
  writeFileSync(
    config,
    `version = 2
root = "${folder}/root"
state = "${folder}/state"
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
  return { daemon, address, blobs: join(folder, 'root/io.containerd.content.v1.content/blobs') };
}
