// What the handlers of the distribution API work with, and what a handler is.
import type { Clock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import type { Repository, Upstreams } from '../../oci/reference.ts';
import type { Blobs } from '../../pull/blobs.ts';
import type { Manifests } from '../../pull/manifests.ts';
import type { Referrers } from '../../pull/referrers.ts';
import type { SeenManifests } from '../../pull/seen-manifests.ts';
import type { TagLists } from '../../pull/tag-lists.ts';
import type { Tags } from '../../pull/tags.ts';
import type { Deletes } from '../../push/delete.ts';
import type { ManifestPushes } from '../../push/manifest.ts';
import type { Mounts } from '../../push/mount.ts';
import type { Uploads } from '../../push/uploads.ts';
import type { BodyMemory } from '../body/body-memory.ts';
import type { BodySending } from '../body/send.ts';
import type { Exchange } from './exchange.ts';
import type { Kind, ParsedRequest } from './request.ts';

export interface Services extends BodySending {
  readonly upstreams: Upstreams;
  readonly blobs: Blobs;
  readonly manifests: Manifests;
  readonly seen: SeenManifests;
  readonly tags: Tags;
  readonly tagLists: TagLists;
  readonly referrers: Referrers;
  readonly uploads: Uploads;
  readonly mounts: Mounts;
  readonly manifestPushes: ManifestPushes;
  readonly deletes: Deletes;
  /** All repositories that something is cached of, in lexical order of upstream and name. */
  repositories(): Promise<Repository[]>;
  /** For request bodies that are buffered whole. */
  readonly bodyMemory: BodyMemory;
  /** Set by the configuration: nothing is pushed or deleted through this cache. */
  readonly pushesOff: boolean;
  /** The error to answer with, in place of one that a module could not explain. */
  explain(error: unknown): unknown;
  readonly clock: Clock;
  readonly log: Log;
}

/** Serves one kind of resource by one method; what it throws is answered as an error. */
export type Handler<K extends Kind> = (
  services: Services,
  exchange: Exchange,
  request: ParsedRequest<K>,
) => Promise<void> | void;
