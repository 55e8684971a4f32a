import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { TestClock } from '../../test/support/clock.ts';
import { Freshness } from './freshness.ts';

const clock = new TestClock();
const fresh = () => new Freshness(clock, 0);
const isFresh = (changes: Freshness, key: string) => changes.isFresh(key, { checkedAtMs: clock.now() }, 1000);

describe('changes', () => {
  test('are known from when they happen until they are heard', () => {
    const changes = fresh();
    assert.equal(isFresh(changes, 'list'), true);
    changes.changed('list');
    assert.equal(isFresh(changes, 'list'), false);
    assert.equal(isFresh(changes, 'other'), true);
    const asked = changes.asking();
    assert.equal(isFresh(changes, 'list'), false, 'the answer is still to come');
    assert.equal(changes.isCurrent('list', asked), true);
    assert.equal(isFresh(changes, 'list'), true);
  });

  test('that happen while a question is under way make its answer old', () => {
    for (const isChangedBefore of [false, true]) {
      const changes = fresh();
      if (isChangedBefore) changes.changed('list');
      const asked = changes.asking();
      changes.changed('list');
      assert.equal(changes.isCurrent('list', asked), false);
      assert.equal(isFresh(changes, 'list'), false);
      assert.equal(changes.isCurrent('list', changes.asking()), true);
    }
  });

  test('are not forgotten by an answer that comes late, after a newer one was heard', () => {
    const changes = fresh();
    const slow = changes.asking();
    changes.changed('list');
    assert.equal(changes.isCurrent('list', changes.asking()), true);
    assert.equal(changes.isCurrent('list', slow), false);
  });

  test('leave several answers to the same question as good as each other', () => {
    const changes = fresh();
    changes.changed('list');
    const [one, two] = [changes.asking(), changes.asking()];
    assert.equal(changes.isCurrent('list', one), true);
    assert.equal(isFresh(changes, 'list'), true);
    // Whether the second counts does not matter, as long as nothing is taken for changed.
    changes.isCurrent('list', two);
    assert.equal(isFresh(changes, 'list'), true);
  });

  test('of one key say nothing of another', () => {
    const changes = fresh();
    const asked = changes.asking();
    changes.changed('other');
    assert.equal(changes.isCurrent('list', asked), true);
    assert.equal(isFresh(changes, 'other'), false);
  });

  test('are never lost, whatever is asked and heard in which order: no answer from before one passes for new', () => {
    const steps = fc.array(
      fc.oneof(
        fc.record({ do: fc.constant('note' as const), key: fc.constantFrom('a', 'b') }),
        fc.record({ do: fc.constant('ask' as const), key: fc.constantFrom('a', 'b') }),
        fc.record({ do: fc.constant('hear' as const), key: fc.constantFrom('a', 'b'), which: fc.nat(5) }),
      ),
      { maxLength: 30 },
    );
    fc.assert(
      fc.property(steps, all => {
        const changes = fresh();
        /** How many changes there were, and how many of them a current answer was asked after. */
        const happened = new Map<string, number>();
        const heard = new Map<string, number>();
        const asked: { key: string; mark: ReturnType<Freshness['asking']>; happened: number }[] = [];
        for (const step of all) {
          const count = happened.get(step.key) ?? 0;
          if (step.do === 'note') {
            changes.changed(step.key);
            happened.set(step.key, count + 1);
          } else if (step.do === 'ask') {
            asked.push({ key: step.key, mark: changes.asking(), happened: count });
          } else {
            const open = asked.filter(({ key }) => key === step.key);
            const question = open[step.which % Math.max(1, open.length)];
            if (question === undefined) continue;
            if (changes.isCurrent(step.key, question.mark)) {
              assert.equal(question.happened, count, 'the answer is from before a change');
              heard.set(step.key, count);
            }
          }
        }
        for (const key of ['a', 'b']) {
          const isOld = (happened.get(key) ?? 0) > (heard.get(key) ?? 0);
          if (isOld) assert.equal(isFresh(changes, key), false);
        }
      }),
      { numRuns: 300 },
    );
  });
});
