-- A procedural language, an access method and a transform of an administrator.
-- since: 15
-- admin:
CREATE LANGUAGE my_lang HANDLER plpgsql_call_handler INLINE plpgsql_inline_handler VALIDATOR plpgsql_validator;
CREATE ACCESS METHOD my_heap TYPE TABLE HANDLER heap_tableam_handler;
-- owner:
CREATE TABLE t (id int) USING my_heap;
INSERT INTO t VALUES (1);
-- target:
CREATE LANGUAGE my_lang HANDLER plpgsql_call_handler INLINE plpgsql_inline_handler VALIDATOR plpgsql_validator;
CREATE ACCESS METHOD my_heap TYPE TABLE HANDLER heap_tableam_handler;
