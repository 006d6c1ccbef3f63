/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VMState: a device's state as a table of fields; save and load walk the table.
 *
 *	struct counter { uint32_t value; uint8_t depth; uint16_t log[8]; };
 *
 *	static const struct vmstate_field counter_fields[] = {
 *		VMSTATE_ONE(UINT32, value, struct counter),
 *		VMSTATE_ONE(UINT8, depth, struct counter, .version_id = 2),
 *		VMSTATE_ARRAY(UINT16, log, struct counter),
 *		VMSTATE_END,
 *	};
 *	const struct vmstate_desc counter_vmstate = {
 *		.name = "counter", .version_id = 2, .minimum_version_id = 1, .fields = counter_fields,
 *	};
 *
 * A field is kind x container x condition: what one element is (UINT32, a struct, bytes, a bitmap, a list), how many there are
 * and where they lie (one, an array, an array counted by another field, behind a pointer), and whether it exists (since a
 * version, or by a function). Macros check the C type of the member when they are compiled: a UINT32 given a uint16_t
 * member does not build.
 *
 * On the wire: stream format, section 6. Fields are inline without headers; subsections follow the fields, named
 * "parent/sub", and are sent only where needed() says so. Because a reader finds a subsection by peeking at the next bytes,
 * a description with subsections must not be nested inside another one; vmstate_check() asserts it. A subsection may have
 * subsections.
 *
 * Linked lists keep four things apart, as data: the loop's format on the wire, the list's representation in memory, the
 * description of an element, and the allocator. See struct vmstate_list.
 *
 * Errors are paths: "uart16550[0].txq[3].len: value 900 exceeds 256".
 *
 * Saving does not change the device: pre_save may only gather state into the saved struct, temporaries are made for the purpose
 * and thrown away.
 *
 * Loading is all or nothing: what a load overwrites is written down first (see vmstate_undo.h), and a load that fails, wherever,
 * puts every field, allocated array and list back and frees what it had made. What remains are the effects of the device's own
 * hooks: what pre_load and post_load do beyond the fields of the table (program a chip, raise a line) is the hook's to undo,
 * so a post_load first validates, then acts, and whoever has loaded several sections can undo none but the last.
 */
#ifndef FERRY_STREAM_VMSTATE_H
#define FERRY_STREAM_VMSTATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "migration/stream/stream.h"
#include "vmm/base/error.h"

enum vmstate_kind {
	VMSTATE_KIND_END,
	VMSTATE_KIND_BOOL,
	VMSTATE_KIND_UINT8,
	VMSTATE_KIND_UINT16,
	VMSTATE_KIND_UINT32,
	VMSTATE_KIND_UINT64,
	VMSTATE_KIND_INT8,
	VMSTATE_KIND_INT16,
	VMSTATE_KIND_INT32,
	VMSTATE_KIND_INT64,
	VMSTATE_KIND_UINT8_EQUAL, /* the loader compares with what the device has */
	VMSTATE_KIND_UINT16_EQUAL,
	VMSTATE_KIND_UINT32_EQUAL,
	VMSTATE_KIND_UINT64_EQUAL,
	VMSTATE_KIND_TIMER,  /* int64_t expiry in ns, -1: not armed */
	VMSTATE_KIND_BUFFER, /* raw bytes */
	VMSTATE_KIND_BITMAP, /* uint64_t words, bit 0 the lowest of the first; bits beyond the end are refused */
	VMSTATE_KIND_UNUSED, /* zeroes, skipped on load */
	VMSTATE_KIND_STRUCT,
	VMSTATE_KIND_LIST,
};

/* C types of the kinds, for the macros below. */
#define VMSTATE_CTYPE_BOOL bool
#define VMSTATE_CTYPE_UINT8 uint8_t
#define VMSTATE_CTYPE_UINT16 uint16_t
#define VMSTATE_CTYPE_UINT32 uint32_t
#define VMSTATE_CTYPE_UINT64 uint64_t
#define VMSTATE_CTYPE_INT8 int8_t
#define VMSTATE_CTYPE_INT16 int16_t
#define VMSTATE_CTYPE_INT32 int32_t
#define VMSTATE_CTYPE_INT64 int64_t
#define VMSTATE_CTYPE_UINT8_EQUAL uint8_t
#define VMSTATE_CTYPE_UINT16_EQUAL uint16_t
#define VMSTATE_CTYPE_UINT32_EQUAL uint32_t
#define VMSTATE_CTYPE_UINT64_EQUAL uint64_t
#define VMSTATE_CTYPE_TIMER int64_t

enum {
	/* The number of elements (bytes of a BUFFER, bits of a BITMAP) is in another field. */
	VMSTATE_COUNTED = 1 << 0,
	VMSTATE_POINTER = 1 << 1, /* the member points to the first element */
	VMSTATE_ALLOC = 1 << 2,	  /* ... which is allocated on load, in place of what was there */
	/* The member is an array of pointers; NULL is one byte 0x30. Any other element has no marker, so which ones are NULL
	 * is for the device that loads to know: they are not allocated. */
	VMSTATE_POINTERS = 1 << 3,
	/* The struct is none of the device's: it is made for the load or the save, see VMSTATE_TEMPORARY. */
	VMSTATE_TEMP = 1 << 4,
};

struct vmstate_field {
	const char *name;
	size_t offset;
	size_t size;	/* of one element in memory; BUFFER and UNUSED: bytes; LIST: of the head */
	uint32_t count; /* elements (BITMAP: bits); with COUNTED: the most that are accepted */
	size_t count_offset; /* COUNTED: an unsigned field, which must come earlier in the table */
	uint8_t count_size;  /* ... of so many bytes: 1, 2 or 4 */
	enum vmstate_kind kind;
	unsigned int flags;
	uint32_t version_id; /* exists in streams of this version and later */
	bool (*exists)(const void *opaque, uint32_t version_id); /* decides instead, if set */
	const struct vmstate_desc *desc;			 /* STRUCT */
	/* STRUCT: the version of desc that is inline here; 0: its newest, so that desc must not have fields of later versions. */
	uint32_t struct_version;
	const struct vmstate_list *list; /* LIST */
	size_t element_size;		 /* LIST: of the type that the macro was given */
};

struct vmstate_desc {
	const char *name;
	uint32_t version_id;
	uint32_t minimum_version_id;
	int priority; /* of a section: higher ones are saved, and so loaded, first; else in the order of registration */
	const struct vmstate_field *fields;	       /* ends with VMSTATE_END */
	const struct vmstate_desc *const *subsections; /* NULL-terminated; or NULL */
	bool (*needed)(const void *opaque);	       /* of a subsection */
	bool (*pre_save)(void *opaque, struct error **errp);
	void (*post_save)(
		void *opaque); /* called whenever pre_save succeeded, also after a failure */
	bool (*pre_load)(void *opaque, struct error **errp);
	/* Validates what was loaded, and makes the device take it. */
	bool (*post_load)(void *opaque, uint32_t version_id, struct error **errp);
};

struct vmstate_list;

/* What stands on the wire around the elements. */
struct vmstate_list_loop {
	const char *type; /* in descriptions of the stream; NULL: "list" */
	bool count_first; /* a be32 number of elements before all of them */
	bool no_marks;	  /* no byte before an element, nor at the end: only with count_first */
	uint8_t more; /* the byte before an element; 0: it is the element's own flag, below. The end is a byte 0. */
	size_t flag_offset; /* more == 0: a uint8_t in the element, never 0, that travels as the loop's byte */
	uint8_t flag_max; /* ... and its largest legal value */
};
extern const struct vmstate_list_loop vmstate_loop_one; /* byte 1: the format's qtailq and qlist */
extern const struct vmstate_list_loop vmstate_loop_count; /* a count in front and nothing else */
extern const struct vmstate_list_loop
	vmstate_loop_map; /* the format's gtree: a count, and byte 1 */

/* How the elements hang together in memory. */
struct vmstate_list_links {
	void *(*first)(const struct vmstate_list *list, const void *head);
	void *(*next)(const struct vmstate_list *list, const void *head, const void *element);
	/* The list holds these elements in this order from now on; what it held is forgotten, not freed. */
	void (*attach)(const struct vmstate_list *list, void *head, void *const *elements,
		       uint32_t n);
	/* attach copies what the elements hold, and the list has memory of its own for max_elements of them. */
	bool by_value;
};
extern const struct vmstate_list_links
	vmstate_tailq_links; /* TAILQ: `link` is the offset of the TAILQ_ENTRY */
extern const struct vmstate_list_links vmstate_list_links;  /* LIST, likewise */
extern const struct vmstate_list_links vmstate_slist_links; /* SLIST, likewise */
/* An array; the head is its first element, and a uint32_t at head + counter says how many are in use. */
extern const struct vmstate_list_links vmstate_array_links;

struct vmstate_list {
	const struct vmstate_list_loop *loop; /* NULL: vmstate_loop_one */
	const struct vmstate_list_links *links;
	size_t link;
	ptrdiff_t counter; /* of an array */
	const struct vmstate_desc *element;
	size_t element_size;
	uint32_t max_elements;
	void *(*alloc)(
		size_t size); /* NULL: calloc; the element comes zeroed. Not with by_value. */
	/* NULL: free. What VMState has allocated inside the element is freed before, and its pointers are NULL. */
	void (*free)(void *element);
	/* What an element alone cannot tell: two alike keys, a wrong order. NULL: nothing to check. */
	bool (*check)(void *const *elements, uint32_t n, struct error **errp);
};

/* --- lists, as initialisers of a struct vmstate_list; further members follow: .loop = , .alloc = , .free = , .check = --- */

#define VMSTATE_LIST_COMMON(type, desc_, max, ...) \
	.element = &(desc_), .element_size = sizeof(type), .max_elements = (max), __VA_ARGS__
#define VMSTATE_TAILQ_OF(type, entry, desc_, max, ...)                          \
	{                                                                       \
		.links = &vmstate_tailq_links,                                  \
		.link = VMSTATE_OFFSET_IF(type, entry, type *, entry.tqe_next), \
		VMSTATE_LIST_COMMON(type, desc_, max, __VA_ARGS__)              \
	}
#define VMSTATE_LIST_OF(type, entry, desc_, max, ...)                          \
	{                                                                      \
		.links = &vmstate_list_links,                                  \
		.link = VMSTATE_OFFSET_IF(type, entry, type *, entry.le_next), \
		VMSTATE_LIST_COMMON(type, desc_, max, __VA_ARGS__)             \
	}
#define VMSTATE_SLIST_OF(type, entry, desc_, max, ...)                          \
	{                                                                       \
		.links = &vmstate_slist_links,                                  \
		.link = VMSTATE_OFFSET_IF(type, entry, type *, entry.sle_next), \
		VMSTATE_LIST_COMMON(type, desc_, max, __VA_ARGS__)              \
	}
/* The array `member` of `state`, of which the first `counter_` (a uint32_t member) elements are in use. */
#define VMSTATE_ARRAY_OF(state, member, counter_, type, desc_, ...)                          \
	{                                                                                    \
		.links = &vmstate_array_links,                                               \
		.counter = (ptrdiff_t)VMSTATE_OFFSET(state, counter_, uint32_t) -            \
			   (ptrdiff_t)VMSTATE_OFFSET(state, member,                          \
						     type[VMSTATE_NELEMS(state, member)]),   \
		VMSTATE_LIST_COMMON(type, desc_, VMSTATE_NELEMS(state, member), __VA_ARGS__) \
	}

/* --- field macros; further members follow as designated initialisers: .version_id = 2, .exists = fn --- */

#define VMSTATE_MEMBER(state, member) __typeof__(((state *)0)->member)
/* The member's offset, where its type is `type`; else a compile error. */
#define VMSTATE_OFFSET(state, member, type)                                                        \
	(offsetof(state, member) +                                                                 \
	 0 * sizeof(struct {                                                                       \
		 int checked;                                                                      \
		 _Static_assert(__builtin_types_compatible_p(VMSTATE_MEMBER(state, member), type), \
				"member " #member " is not of type " #type);                       \
	 }))
/* The offset of `member`, where `part` (which may be a part of it) is of type `type`. */
#define VMSTATE_OFFSET_IF(state, member, type, part) \
	(offsetof(state, member) + 0 * VMSTATE_OFFSET(state, part, type))
/* 0, where `condition` holds; else a compile error. */
#define VMSTATE_REQUIRE(condition, message)          \
	(0 * sizeof(struct {                         \
		 int checked;                        \
		 _Static_assert(condition, message); \
	 }))
#define VMSTATE_IS(state, member, type) \
	__builtin_types_compatible_p(VMSTATE_MEMBER(state, member), type)
/* `counter`, a uint8_t, uint16_t or uint32_t member, counts the elements. */
#define VMSTATE_COUNTER(state, counter)                                                 \
	.count_size = sizeof(VMSTATE_MEMBER(state, counter)),                           \
	.count_offset = offsetof(state, counter) +                                      \
			VMSTATE_REQUIRE(VMSTATE_IS(state, counter, uint8_t) ||          \
						VMSTATE_IS(state, counter, uint16_t) || \
						VMSTATE_IS(state, counter, uint32_t),   \
					"counter " #counter                             \
					" is not of type uint8_t, uint16_t or uint32_t")
#define VMSTATE_NELEMS(state, member) \
	(sizeof(VMSTATE_MEMBER(state, member)) / sizeof(((state *)0)->member[0]))

#define VMSTATE_ONE(kind_, member, state, ...)                                              \
	{                                                                                   \
		.name = #member, .kind = VMSTATE_KIND_##kind_, .count = 1,                  \
		.size = sizeof(VMSTATE_CTYPE_##kind_),                                      \
		.offset = VMSTATE_OFFSET(state, member, VMSTATE_CTYPE_##kind_), __VA_ARGS__ \
	}
/* A whole fixed array. */
#define VMSTATE_ARRAY(kind_, member, state, ...)                                                \
	{                                                                                       \
		.name = #member, .kind = VMSTATE_KIND_##kind_,                                  \
		.count = VMSTATE_NELEMS(state, member), .size = sizeof(VMSTATE_CTYPE_##kind_),  \
		.offset = VMSTATE_OFFSET(state, member,                                         \
					 VMSTATE_CTYPE_##kind_[VMSTATE_NELEMS(state, member)]), \
		__VA_ARGS__                                                                     \
	}
/* A fixed array of which the first `counter` (a uint32_t member) elements are in use. */
#define VMSTATE_VARRAY(kind_, member, state, counter, ...)            \
	VMSTATE_ARRAY(kind_, member, state, .flags = VMSTATE_COUNTED, \
		      VMSTATE_COUNTER(state, counter), __VA_ARGS__)
/* A pointer to `counter` elements, allocated on load; at most max are accepted. */
#define VMSTATE_ALLOC_ARRAY(kind_, member, state, counter, max, ...)                          \
	{                                                                                     \
		.name = #member, .kind = VMSTATE_KIND_##kind_, .count = (max),                \
		.size = sizeof(VMSTATE_CTYPE_##kind_),                                        \
		.flags = VMSTATE_COUNTED | VMSTATE_POINTER | VMSTATE_ALLOC,                   \
		VMSTATE_COUNTER(state, counter),                                              \
		.offset = VMSTATE_OFFSET(state, member, VMSTATE_CTYPE_##kind_ *), __VA_ARGS__ \
	}
/* A whole array of arrays, row by row. */
#define VMSTATE_ARRAY_2D(kind_, member, state, ...)                                                \
	{                                                                                          \
		.name = #member, .kind = VMSTATE_KIND_##kind_,                                     \
		.count = VMSTATE_NELEMS(state, member) * VMSTATE_NELEMS(state, member[0]),         \
		.size = sizeof(VMSTATE_CTYPE_##kind_),                                             \
		.offset = VMSTATE_OFFSET(state, member,                                            \
					 VMSTATE_CTYPE_##kind_[VMSTATE_NELEMS(state, member)]      \
							      [VMSTATE_NELEMS(state, member[0])]), \
		__VA_ARGS__                                                                        \
	}
/* A fixed array of pointers, each NULL or to an element that the device already has on load. */
#define VMSTATE_POINTER_ARRAY(kind_, member, state, ...)                                           \
	{                                                                                          \
		.name = #member, .kind = VMSTATE_KIND_##kind_,                                     \
		.count = VMSTATE_NELEMS(state, member), .size = sizeof(VMSTATE_CTYPE_##kind_),     \
		.flags = VMSTATE_POINTERS,                                                         \
		.offset = VMSTATE_OFFSET(state, member,                                            \
					 VMSTATE_CTYPE_##kind_ * [VMSTATE_NELEMS(state, member)]), \
		__VA_ARGS__                                                                        \
	}
/* The offset of an array of bytes. */
#define VMSTATE_BYTES_OFFSET(state, member)                           \
	(offsetof(state, member) +                                    \
	 VMSTATE_REQUIRE(VMSTATE_IS(state, member[0], uint8_t) ||     \
				 VMSTATE_IS(state, member[0], char),  \
			 "member " #member " is no array of bytes") + \
	 VMSTATE_REQUIRE(!VMSTATE_IS(state, member, uint8_t *) &&     \
				 !VMSTATE_IS(state, member, char *),  \
			 "member " #member " is a pointer, not an array"))
/* A fixed array of bytes as a buffer. */
#define VMSTATE_BUFFER(member, state, ...)                                 \
	{                                                                  \
		.name = #member, .kind = VMSTATE_KIND_BUFFER, .count = 1,  \
		.size = sizeof(VMSTATE_MEMBER(state, member)),             \
		.offset = VMSTATE_BYTES_OFFSET(state, member), __VA_ARGS__ \
	}
/* Of an array of bytes, `bytes` from `start` on. */
#define VMSTATE_BUFFER_PART(member, state, start, bytes, ...)                                    \
	{                                                                                        \
		.name = #member, .kind = VMSTATE_KIND_BUFFER, .count = 1,                        \
		.size = (bytes) + VMSTATE_REQUIRE((start) + (bytes) <=                           \
							  sizeof(VMSTATE_MEMBER(state, member)), \
						  "the part is not inside " #member),            \
		.offset = VMSTATE_BYTES_OFFSET(state, member) + (start), __VA_ARGS__             \
	}
/* The first `counter` bytes of a fixed array of bytes. */
#define VMSTATE_VBUFFER(member, state, counter, ...)                                            \
	{                                                                                       \
		.name = #member, .kind = VMSTATE_KIND_BUFFER, .flags = VMSTATE_COUNTED,         \
		.count = sizeof(VMSTATE_MEMBER(state, member)), .size = 1,                      \
		VMSTATE_COUNTER(state, counter), .offset = VMSTATE_BYTES_OFFSET(state, member), \
		__VA_ARGS__                                                                     \
	}
/* A pointer to `counter` bytes, allocated on load (with a NUL behind them); at most max are accepted. */
#define VMSTATE_ALLOC_BUFFER(member, state, counter, max, ...)                           \
	{                                                                                \
		.name = #member, .kind = VMSTATE_KIND_BUFFER, .count = (max), .size = 1, \
		.flags = VMSTATE_COUNTED | VMSTATE_POINTER | VMSTATE_ALLOC,              \
		VMSTATE_COUNTER(state, counter),                                         \
		.offset = VMSTATE_OFFSET(state, member, uint8_t *), __VA_ARGS__          \
	}
/* `bits` bits in a fixed array of words, which they fill but for the last word. */
#define VMSTATE_BITMAP(member, state, bits, ...)                                                   \
	{                                                                                          \
		.name = #member, .kind = VMSTATE_KIND_BITMAP, .count = (bits),                     \
		.size = sizeof(VMSTATE_MEMBER(state, member)),                                     \
		.offset = VMSTATE_OFFSET(state, member, uint64_t[((bits) + 63) / 64]), __VA_ARGS__ \
	}
/* A pointer to a bitmap of `counter` bits, allocated on load; at most max are accepted. */
#define VMSTATE_ALLOC_BITMAP(member, state, counter, max, ...)                           \
	{                                                                                \
		.name = #member, .kind = VMSTATE_KIND_BITMAP, .count = (max), .size = 8, \
		.flags = VMSTATE_COUNTED | VMSTATE_POINTER | VMSTATE_ALLOC,              \
		VMSTATE_COUNTER(state, counter),                                         \
		.offset = VMSTATE_OFFSET(state, member, uint64_t *), __VA_ARGS__         \
	}
#define VMSTATE_UNUSED(bytes, ...)                                                          \
	{                                                                                   \
		.name = "unused", .kind = VMSTATE_KIND_UNUSED, .count = 1, .size = (bytes), \
		__VA_ARGS__                                                                 \
	}
#define VMSTATE_STRUCT(member, state, desc_, type, ...)                                          \
	{                                                                                        \
		.name = #member, .kind = VMSTATE_KIND_STRUCT, .desc = &(desc_), .count = 1,      \
		.size = sizeof(type), .offset = VMSTATE_OFFSET(state, member, type), __VA_ARGS__ \
	}
/* A struct behind a pointer that is never NULL. */
#define VMSTATE_STRUCT_PTR(member, state, desc_, type, ...)                                 \
	{                                                                                   \
		.name = #member, .kind = VMSTATE_KIND_STRUCT, .desc = &(desc_), .count = 1, \
		.size = sizeof(type), .flags = VMSTATE_POINTER,                             \
		.offset = VMSTATE_OFFSET(state, member, type *), __VA_ARGS__                \
	}
#define VMSTATE_STRUCT_ARRAY(member, state, desc_, type, ...)                                 \
	{                                                                                     \
		.name = #member, .kind = VMSTATE_KIND_STRUCT, .desc = &(desc_),               \
		.size = sizeof(type), .count = VMSTATE_NELEMS(state, member),                 \
		.offset = VMSTATE_OFFSET(state, member, type[VMSTATE_NELEMS(state, member)]), \
		__VA_ARGS__                                                                   \
	}
#define VMSTATE_STRUCT_ALLOC(member, state, counter, max, desc_, type, ...)                       \
	{                                                                                         \
		.name = #member, .kind = VMSTATE_KIND_STRUCT, .desc = &(desc_),                   \
		.size = sizeof(type), .count = (max),                                             \
		.flags = VMSTATE_COUNTED | VMSTATE_POINTER | VMSTATE_ALLOC,                       \
		VMSTATE_COUNTER(state, counter), .offset = VMSTATE_OFFSET(state, member, type *), \
		__VA_ARGS__                                                                       \
	}
/* An array of pointers to structs, each NULL or to a struct that the device already has on load. */
#define VMSTATE_STRUCT_POINTERS(member, state, desc_, type, ...)                                 \
	{                                                                                        \
		.name = #member, .kind = VMSTATE_KIND_STRUCT, .desc = &(desc_),                  \
		.size = sizeof(type), .count = VMSTATE_NELEMS(state, member),                    \
		.flags = VMSTATE_POINTERS,                                                       \
		.offset = VMSTATE_OFFSET(state, member, type * [VMSTATE_NELEMS(state, member)]), \
		__VA_ARGS__                                                                      \
	}
/*
 * What the wire has is computed from the device and the device from it: `type` is a struct whose first member is `state *parent`,
 * made (zeroed, with that pointer) for the save or load, and freed after it. desc's pre_save fills it, its post_load applies it.
 */
#define VMSTATE_TEMPORARY(name_, state, desc_, type, ...)                                        \
	{                                                                                        \
		.name = (name_), .kind = VMSTATE_KIND_STRUCT, .desc = &(desc_), .count = 1,      \
		.flags = VMSTATE_TEMP,                                                           \
		.size = sizeof(type) + 0 * VMSTATE_OFFSET(type, parent, state *) +               \
			VMSTATE_REQUIRE(offsetof(type, parent) == 0, "parent is not the first"), \
		__VA_ARGS__                                                                      \
	}
#define VMSTATE_LIST_FIELD(member, state, list_, type, ...)                       \
	.name = #member, .kind = VMSTATE_KIND_LIST, .list = &(list_), .count = 1, \
	.element_size = sizeof(type), .size = sizeof(VMSTATE_MEMBER(state, member)), __VA_ARGS__
/* A TAILQ_HEAD, LIST_HEAD, SLIST_HEAD of elements of that type, which list_ describes. */
#define VMSTATE_QTAILQ(member, state, list_, type, ...)                               \
	{                                                                             \
		.offset = VMSTATE_OFFSET_IF(state, member, type *, member.tqh_first), \
		VMSTATE_LIST_FIELD(member, state, list_, type, __VA_ARGS__)           \
	}
#define VMSTATE_QLIST(member, state, list_, type, ...)                               \
	{                                                                            \
		.offset = VMSTATE_OFFSET_IF(state, member, type *, member.lh_first), \
		VMSTATE_LIST_FIELD(member, state, list_, type, __VA_ARGS__)          \
	}
#define VMSTATE_QSLIST(member, state, list_, type, ...)                               \
	{                                                                             \
		.offset = VMSTATE_OFFSET_IF(state, member, type *, member.slh_first), \
		VMSTATE_LIST_FIELD(member, state, list_, type, __VA_ARGS__)           \
	}
/* A list held in an array: VMSTATE_ARRAY_OF. */
#define VMSTATE_LIST_ARRAY(member, state, list_, type, ...)                                   \
	{                                                                                     \
		.offset = VMSTATE_OFFSET(state, member, type[VMSTATE_NELEMS(state, member)]), \
		VMSTATE_LIST_FIELD(member, state, list_, type, __VA_ARGS__)                   \
	}
/* A list, tree or map of the device's own links, which are list_'s; the member is what they call the head. */
#define VMSTATE_OWN_LIST(member, state, list_, type, ...)                   \
	{                                                                   \
		.offset = offsetof(state, member),                          \
		VMSTATE_LIST_FIELD(member, state, list_, type, __VA_ARGS__) \
	}
#define VMSTATE_END                      \
	{                                \
		.kind = VMSTATE_KIND_END \
	}

/*
 * Save the fields and needed subsections of opaque. Where `json` is not NULL (an object), members vmsd_name, version, fields and
 * subsections are added to it as the stream format's section 7 says.
 */
bool vmstate_save(struct stream_out *out, const struct vmstate_desc *desc, void *opaque,
		  json_t *json, struct error **errp);
/* Load what a writer of version_id has written. The error begins with the path inside the description: ".field: ..." or
 * ": ...". */
bool vmstate_load(struct stream_in *in, const struct vmstate_desc *desc, void *opaque,
		  uint32_t version_id, struct error **errp);
/* Free what loading has allocated inside opaque (arrays, list elements), and leave NULL and empty lists behind. Of a device
 * that was zeroed and initialised when it was made. */
void vmstate_release(const struct vmstate_desc *desc, void *opaque);
/* Asserts what a description must keep to; for unit tests over all descriptions. */
void vmstate_check(const struct vmstate_desc *desc);
/* The description itself, without any state, as a JSON object: name, version, minimum_version, fields, subsections. */
json_t *vmstate_describe(const struct vmstate_desc *desc);
/* As the JSON calls it: "uint32", "struct", "qtailq" ... */
const char *vmstate_field_type(const struct vmstate_field *field);

#endif
