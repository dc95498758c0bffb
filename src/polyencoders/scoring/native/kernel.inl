// The whole kernel, for the variant that includes it: after `multiply` and `LEVELS`, the two things that differ.

#include "lanes.inl"
#include "prepare.inl"
#include "query.inl"
#include "screen.inl"
#include "rescore.inl"
#include "search.inl"
#include "bounds.inl"
