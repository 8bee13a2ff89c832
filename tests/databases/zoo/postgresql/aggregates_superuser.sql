-- Aggregates with a state of type internal, which only a superuser may make; the tenant's view uses one.
-- since: 15
-- admin:
CREATE AGGREGATE public.middle(float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal, FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA, FINALFUNC_MODIFY = READ_WRITE);
CREATE AGGREGATE public.my_rank(VARIADIC "any" ORDER BY VARIADIC "any") (SFUNC = ordered_set_transition_multi, STYPE = internal, FINALFUNC = rank_final, FINALFUNC_EXTRA, HYPOTHETICAL);
-- owner:
CREATE VIEW uses AS SELECT middle(0.5) WITHIN GROUP (ORDER BY n) AS m FROM (VALUES (1), (2)) v (n);
