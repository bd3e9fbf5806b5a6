/*
 * Two walkers over the page tables of a pool, for the bench to time beside `scan` (see c_walkers.py).
 *
 * tdp_iter_scan goes from entry to entry in the way of Linux's struct tdp_iter (S60-S65): all state is
 * in the iterator, tdp_iter_next is another file's function there and hence no inlined one here, each entry
 * is read once when the walk comes to it and once more before it goes below. tight_scan is what one would
 * write for speed alone: a loop over the entries of a table that are in range, and a call per table below.
 *
 * Of each entry both ask what the patch's loop body asks: a present huge leaf, and not fully inside
 * [start, end)? The geometry is x86's.
 *
 * The kernel gets from an entry to its table by adding the direct map's address; `tables[pfn]` costs a load
 * more for each table, not for each entry.
 */
#include <stdbool.h>
#include <stdint.h>

typedef uint64_t u64;

#define LEVEL_BITS 9
#define ENTRIES (1 << LEVEL_BITS)
#define MAX_LEVEL 5
#define PRESENT (1ull << 11)
#define LARGE (1ull << 7)
#define FRAME_MASK ((1ull << 52) - (1ull << 12))

#define SHIFT(level) (((level) - 1) * LEVEL_BITS)
#define PAGES(level) (1ull << SHIFT(level))
#define ROUND_DOWN(gfn, level) ((gfn) & -PAGES(level))
#define INDEX(gfn, level) ((gfn) >> SHIFT(level) & (ENTRIES - 1))
#define READ_ONCE(x) (*(const volatile __typeof__(x) *)&(x))

/* What a walk met. `crossing` counts on when the places are full, so that too many do not pass for two. */
struct found {
	u64 visited;
	u64 crossing;
	struct { u64 gfn, level; } leaf[2];
};

static void note_crossing(struct found *found, u64 gfn, int level)
{
	if (found->crossing < 2) {
		found->leaf[found->crossing].gfn = gfn;
		found->leaf[found->crossing].level = level;
	}
	found->crossing++;
}

static bool is_huge_leaf(u64 spte)
{
	return (spte & PRESENT) && (spte & LARGE);
}

static bool crosses(u64 gfn, int level, u64 start, u64 end)
{
	return !(gfn >= start && gfn + PAGES(level) <= end);
}

static const u64 *child_table(const u64 *const *tables, u64 spte, int level)
{
	if (!(spte & PRESENT) || level == 1 || (spte & LARGE))
		return 0;
	return tables[(spte & FRAME_MASK) >> 12];
}

/* ---- as tdp_iter.c does ---------------------------------------------------------------------------- */

struct tdp_iter {
	u64 next_last_level_gfn;
	u64 yielded_gfn;
	const u64 *pt_path[MAX_LEVEL];
	const u64 *sptep;
	u64 gfn;
	u64 gfn_bits;
	int root_level;
	int min_level;
	int level;
	u64 old_spte;
	bool valid;
	bool yielded;
	const u64 *const *tables;
};

/* Stand on the entry for `gfn` in the table on the path at the current level. */
static void refresh(struct tdp_iter *it, u64 gfn)
{
	it->gfn = ROUND_DOWN(gfn, it->level);
	it->sptep = it->pt_path[it->level - 1] + INDEX(gfn | it->gfn_bits, it->level);
	it->old_spte = READ_ONCE(*it->sptep);
}

static void restart(struct tdp_iter *it)
{
	it->yielded = false;
	it->yielded_gfn = it->next_last_level_gfn;
	it->level = it->root_level;
	refresh(it, it->next_last_level_gfn);
	it->valid = true;
}

/* Not static: like the kernel's, it must serve whoever calls it, and so nothing is known of its argument. */
__attribute__((noinline)) void tdp_iter_next(struct tdp_iter *it);

static bool step_down(struct tdp_iter *it)
{
	const u64 *child;

	if (it->level == it->min_level)
		return false;
	it->old_spte = READ_ONCE(*it->sptep);
	child = child_table(it->tables, it->old_spte, it->level);
	if (!child)
		return false;
	it->level--;
	it->pt_path[it->level - 1] = child;
	refresh(it, it->next_last_level_gfn);
	return true;
}

static bool step_side(struct tdp_iter *it)
{
	if (INDEX(it->gfn | it->gfn_bits, it->level) == ENTRIES - 1)
		return false;
	it->gfn += PAGES(it->level);
	it->next_last_level_gfn = it->gfn;
	it->sptep++;
	it->old_spte = READ_ONCE(*it->sptep);
	return true;
}

static bool step_up(struct tdp_iter *it)
{
	if (it->level == it->root_level)
		return false;
	it->level++;
	refresh(it, it->gfn);
	return true;
}

void tdp_iter_next(struct tdp_iter *it)
{
	if (it->yielded) {
		restart(it);
		return;
	}
	if (step_down(it))
		return;
	do {
		if (step_side(it))
			return;
	} while (step_up(it));
	it->valid = false;
}

void tdp_iter_scan(const u64 *const *tables, u64 root, int root_level, u64 start, u64 end, int min_level,
		   struct found *found)
{
	struct tdp_iter it = {
		.tables = tables, .root_level = root_level, .min_level = min_level, .next_last_level_gfn = start,
	};

	*found = (struct found){0};
	it.pt_path[root_level - 1] = tables[root];
	for (restart(&it); it.valid && it.gfn < end; tdp_iter_next(&it)) {
		found->visited++;
		if (is_huge_leaf(it.old_spte) && crosses(it.gfn, it.level, start, end))
			note_crossing(found, it.gfn, it.level);
	}
}

/* ---- as fast as a plain loop goes -------------------------------------------------------------------- */

struct span {
	const u64 *const *tables;
	u64 start, end;
	int min_level;
};

static void scan_table(const struct span *span, const u64 *table, int level, u64 base, struct found *found)
{
	u64 pages = PAGES(level);
	u64 low = span->start > base ? (span->start - base) >> SHIFT(level) : 0;
	u64 gfn = base + low * pages;

	for (u64 index = low; index < ENTRIES && gfn < span->end; index++, gfn += pages) {
		u64 spte = table[index];

		found->visited++;
		if (is_huge_leaf(spte)) {
			if (crosses(gfn, level, span->start, span->end))
				note_crossing(found, gfn, level);
		} else if (level > span->min_level) {
			const u64 *child = child_table(span->tables, spte, level);

			if (child)
				scan_table(span, child, level - 1, gfn, found);
		}
	}
}

void tight_scan(const u64 *const *tables, u64 root, int root_level, u64 start, u64 end, int min_level,
		struct found *found)
{
	struct span span = {tables, start, end, min_level};

	*found = (struct found){0};
	scan_table(&span, tables[root], root_level, 0, found);
}
