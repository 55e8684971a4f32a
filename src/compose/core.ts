// The core: everything of a cache but a port. It pulls, pushes and deletes for any caller, be it an HTTP server or a
// command.
import type { Clock } from '../base/clock.ts';
import { KeyedMutex } from '../base/keyed-mutex.ts';
import type { Config } from '../config/load.ts';
import type { UpstreamConfig } from '../config/sections/upstreams.ts';
import { Blobs } from '../pull/blobs.ts';
import { Freshness } from '../pull/freshness.ts';
import { LocalReferrers } from '../pull/local-referrers.ts';
import { LocalWrites } from '../pull/local-writes.ts';
import { Manifests } from '../pull/manifests.ts';
import { Partials } from '../pull/partials.ts';
import { ReadAhead } from '../pull/read-ahead.ts';
import { Referrers } from '../pull/referrers.ts';
import { SeenManifests } from '../pull/seen-manifests.ts';
import { TagLists } from '../pull/tag-lists.ts';
import { tagRules } from '../pull/tag-rules.ts';
import { Tags } from '../pull/tags.ts';
import { Admission } from '../push/admission.ts';
import { Deletes } from '../push/delete.ts';
import { FallbackReferrers } from '../push/fallback-referrers.ts';
import { ManifestPushes } from '../push/manifest.ts';
import { Mounts } from '../push/mount.ts';
import { Relays } from '../push/relays.ts';
import { Uploads } from '../push/uploads.ts';
import { WriteOnce } from '../push/write-once.ts';
import { Budget } from '../retention/budget.ts';
import { Descriptors, descriptorLimit } from './descriptors.ts';
import type { Environment } from './environment.ts';
import { followLogins } from './logins.ts';
import { openStores } from './stores.ts';
import { createUpstreams, credentialsFor } from './upstreams.ts';

/** How often abandoned uploads and downloads are looked for. */
const SWEEP_MS = 60_000;
/** How long it counts that something can be kept, or cannot: finding out writes to the disk. */
const READY_MS = 1_000;

/** Opens the stores and puts the modules together. Contacts no upstream. Releases everything when it fails halfway. */
export async function openCore(config: Config, environment: Environment) {
  await using stack = new AsyncDisposableStack();
  const { clock, random, log } = environment;
  const descriptors = new Descriptors(environment.descriptors ?? descriptorLimit(), clock, log);
  const { content, ingests, metadata } = await openStores(config, environment, descriptors, stack);
  const graceMs = config.writeGraceMs;
  const localWrites = new LocalWrites({ clock, metadata, graceMs });
  const logins = await followLogins(config, environment, stack);
  const upstreams = createUpstreams(config, environment, { localWrites, descriptors, logins }, stack);
  const { maxSizeBytes, minFreeBytes } = config.cache;
  const limits = { maxSizeBytes, minFreeBytes, pins: config.pins, pushesOff: config.push === 'off' };
  const budget = await Budget.open({ content, metadata, clock, ...limits });

  const leaving = new AbortController();
  const { upstream, writes } = upstreams;
  const common = {
    ...{ content, ingests, metadata, budget, clock, random, log, upstream, writes, localWrites, graceMs },
    localReferrers: new LocalReferrers(clock, graceMs),
    freshness: new Freshness(clock, config.staleIfErrorMs),
    tagMutex: new KeyedMutex(),
    signal: leaving.signal,
  };
  const rule = tagRules(config.tags);
  const found = await ingests.list();
  const partials = new Partials({ ...common, maxSizeBytes }, found);
  const manifests = new Manifests(common);
  const fetchAhead: Blobs['fetchAhead'] = (...blob) => blobs.fetchAhead(...blob);
  const seen = new SeenManifests(manifests, clock);
  const readAhead = config.readAhead ? new ReadAhead({ ...common, fetchAhead }) : undefined;
  const blobs = new Blobs({ ...common, partials, seen, watcher: readAhead });
  const tags = new Tags({ ...common, manifests, rule });
  const tagLists = new TagLists(common);
  const referrers = new Referrers({ ...common, manifests, tags });
  const admission = new Admission(common);
  const relays = new Relays({ ...common, admission });
  const uploads = await Uploads.open({ ...common, blobs, admission, relays }, found);
  await ingests.keep(new Set([...partials.names, ...uploads.leftNames]));
  const mounts = new Mounts({ ...common, blobs, relays });
  const fallbackReferrers = new FallbackReferrers({ ...common, manifests, tags, referrers });
  const isUsed = config.tags.some(({ writeOnce }) => writeOnce);
  const writeOnce = new WriteOnce({ rule, upstream, isUsed });
  const pushing = { ...common, writeOnce, mounts, manifests, tags, tagLists, fallbackReferrers };

  /** Resolves when nothing is being stored any more: clients have their responses a moment before that. */
  const settled = async () => {
    await Promise.all([blobs.settled(), uploads.settled()]);
  };
  stack.defer(settled);
  stack.defer(() => leaving.abort(new Error('the server is shutting down')));
  const sweep = () => Promise.all([uploads.sweep(), partials.sweep(), readAhead?.waste.sweep()]);
  stack.defer(clock.every(SWEEP_MS, () => void sweep().catch(() => {})));
  const owned = stack.move();
  return {
    ...{ upstreams, blobs, manifests, seen, tags, tagLists, referrers, uploads, mounts, settled, descriptors },
    manifestPushes: new ManifestPushes(pushing),
    deletes: new Deletes(pushing),
    /** The names of the credentials for an upstream of the config, as they are now. */
    credentialNames: (name: string, upstream: UpstreamConfig) =>
      credentialsFor(name, upstream, logins).map(credential => credential.name),
    /** All repositories that hold anything, in lexical order of upstream and name. */
    repositories: () => metadata.repositories(),
    /** Rejects with the reason why nothing can be kept now. It may be asked as often as one likes. */
    ready: atMostEach(READY_MS, clock, async () => {
      await metadata.check();
      await content.check();
      await budget.check();
    }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** The work, of which calls share one outcome while it is being done, and for so many milliseconds after that. */
function atMostEach<T>(ms: number, clock: Clock, work: () => Promise<T>): () => Promise<T> {
  let outcome: Promise<T> | undefined;
  let untilMs = Infinity;
  return () => {
    if (outcome === undefined || clock.monotonic() >= untilMs) {
      untilMs = Infinity;
      outcome = work().finally(() => {
        untilMs = clock.monotonic() + ms;
      });
    }
    return outcome;
  };
}
