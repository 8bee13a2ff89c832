-- Like Magento 2: entity-attribute-value tables, cascades, self references and cycles, changelogs filled by triggers, views of
-- them, JSON and spatial odds; then rows.
CREATE TABLE store_website (website_id smallint(5) unsigned NOT NULL AUTO_INCREMENT, code varchar(32) DEFAULT NULL, is_default smallint(5) unsigned DEFAULT 0, PRIMARY KEY (website_id), UNIQUE KEY STORE_WEBSITE_CODE (code)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COMMENT='Websites';
CREATE TABLE store (store_id smallint(5) unsigned NOT NULL AUTO_INCREMENT, code varchar(32) DEFAULT NULL, website_id smallint(5) unsigned NOT NULL DEFAULT 0, name varchar(255) NOT NULL, PRIMARY KEY (store_id), UNIQUE KEY STORE_CODE (code), CONSTRAINT STORE_WEBSITE_ID_STORE_WEBSITE_WEBSITE_ID FOREIGN KEY (website_id) REFERENCES store_website (website_id) ON DELETE CASCADE) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COMMENT='Stores';
CREATE TABLE eav_entity_type (entity_type_id smallint(5) unsigned NOT NULL AUTO_INCREMENT, entity_type_code varchar(50) NOT NULL, PRIMARY KEY (entity_type_id)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3;
CREATE TABLE eav_attribute_set (attribute_set_id smallint(5) unsigned NOT NULL AUTO_INCREMENT, entity_type_id smallint(5) unsigned NOT NULL DEFAULT 0, attribute_set_name varchar(255) DEFAULT NULL, PRIMARY KEY (attribute_set_id), UNIQUE KEY EAV_ATTRIBUTE_SET_ENTITY_TYPE_ID_ATTRIBUTE_SET_NAME (entity_type_id, attribute_set_name), CONSTRAINT EAV_ATTRIBUTE_SET_ENTT_TYPE_ID_EAV_ENTT_TYPE_ENTT_TYPE_ID FOREIGN KEY (entity_type_id) REFERENCES eav_entity_type (entity_type_id) ON DELETE CASCADE) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3;
CREATE TABLE eav_attribute (attribute_id smallint(5) unsigned NOT NULL AUTO_INCREMENT, entity_type_id smallint(5) unsigned NOT NULL DEFAULT 0, attribute_code varchar(255) NOT NULL, backend_type varchar(8) NOT NULL DEFAULT 'static', default_value text DEFAULT NULL, PRIMARY KEY (attribute_id), UNIQUE KEY EAV_ATTRIBUTE_ENTITY_TYPE_ID_ATTRIBUTE_CODE (entity_type_id, attribute_code), CONSTRAINT EAV_ATTRIBUTE_ENTITY_TYPE_ID_EAV_ENTITY_TYPE_ENTITY_TYPE_ID FOREIGN KEY (entity_type_id) REFERENCES eav_entity_type (entity_type_id) ON DELETE CASCADE) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3;
CREATE TABLE catalog_product_entity (entity_id int(10) unsigned NOT NULL AUTO_INCREMENT, attribute_set_id smallint(5) unsigned NOT NULL DEFAULT 0, type_id varchar(32) NOT NULL DEFAULT 'simple', sku varchar(64) NOT NULL, created_at timestamp NOT NULL DEFAULT current_timestamp(), updated_at timestamp NOT NULL DEFAULT current_timestamp() ON UPDATE current_timestamp(), PRIMARY KEY (entity_id), UNIQUE KEY CATALOG_PRODUCT_ENTITY_SKU (sku)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COMMENT='Catalog Product Table';
DELIMITER //
CREATE PROCEDURE make_values(kind varchar(10), definition text) BEGIN
  EXECUTE IMMEDIATE CONCAT('CREATE TABLE catalog_product_entity_', kind, ' (value_id int(11) NOT NULL AUTO_INCREMENT, attribute_id smallint(5) unsigned NOT NULL DEFAULT 0, store_id smallint(5) unsigned NOT NULL DEFAULT 0, entity_id int(10) unsigned NOT NULL DEFAULT 0, value ', definition, ' DEFAULT NULL, PRIMARY KEY (value_id), UNIQUE KEY ENTITY_ATTRIBUTE_STORE (entity_id, attribute_id, store_id), KEY ATTRIBUTE (attribute_id), KEY STORE (store_id), CONSTRAINT CAT_PRD_ENTT_', kind, '_ATTR FOREIGN KEY (attribute_id) REFERENCES eav_attribute (attribute_id) ON DELETE CASCADE, CONSTRAINT CAT_PRD_ENTT_', kind, '_ENTT FOREIGN KEY (entity_id) REFERENCES catalog_product_entity (entity_id) ON DELETE CASCADE ON UPDATE CASCADE, CONSTRAINT CAT_PRD_ENTT_', kind, '_STORE FOREIGN KEY (store_id) REFERENCES store (store_id) ON DELETE CASCADE) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4');
END//
DELIMITER ;
CALL make_values('varchar', 'varchar(255)'); CALL make_values('int', 'int(11)'); CALL make_values('decimal', 'decimal(20,6)'); CALL make_values('datetime', 'datetime'); CALL make_values('text', 'mediumtext'); DROP PROCEDURE make_values;
CREATE TABLE catalog_category_entity (entity_id int(10) unsigned NOT NULL AUTO_INCREMENT, parent_id int(10) unsigned NULL, leader_sku varchar(64) NULL, path varchar(255) NOT NULL, position int(11) NOT NULL, PRIMARY KEY (entity_id), KEY CATALOG_CATEGORY_ENTITY_PATH (path(20)), CONSTRAINT CATEGORY_PARENT FOREIGN KEY (parent_id) REFERENCES catalog_category_entity (entity_id) ON DELETE SET NULL, CONSTRAINT CATEGORY_LEADER FOREIGN KEY (leader_sku) REFERENCES catalog_product_entity (sku) ON UPDATE CASCADE ON DELETE SET NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3;
CREATE TABLE catalog_category_product (entity_id int(11) NOT NULL AUTO_INCREMENT, category_id int(10) unsigned NOT NULL DEFAULT 0, product_id int(10) unsigned NOT NULL DEFAULT 0, position int(11) NOT NULL DEFAULT 0, PRIMARY KEY (entity_id, category_id, product_id), UNIQUE KEY CATEGORY_PRODUCT (category_id, product_id), CONSTRAINT CAT_CTGR_PRD_PRD FOREIGN KEY (product_id) REFERENCES catalog_product_entity (entity_id) ON DELETE CASCADE, CONSTRAINT CAT_CTGR_PRD_CTGR FOREIGN KEY (category_id) REFERENCES catalog_category_entity (entity_id) ON DELETE CASCADE) ENGINE=InnoDB;
-- a cycle: the order's address belongs to the order
CREATE TABLE sales_order (entity_id int(10) unsigned NOT NULL AUTO_INCREMENT, store_id smallint(5) unsigned DEFAULT NULL, billing_address_id int(10) unsigned DEFAULT NULL, increment_id varchar(50) DEFAULT NULL, grand_total decimal(20,4) DEFAULT NULL, tax decimal(20,4) AS (grand_total * 0.19) PERSISTENT, options longtext CHECK (json_valid(options)), created_at timestamp NOT NULL DEFAULT current_timestamp(), PRIMARY KEY (entity_id), UNIQUE KEY SALES_ORDER_INCREMENT_ID_STORE_ID (increment_id, store_id), CONSTRAINT SALES_ORDER_STORE FOREIGN KEY (store_id) REFERENCES store (store_id) ON DELETE SET NULL) ENGINE=InnoDB;
CREATE TABLE sales_order_address (entity_id int(10) unsigned NOT NULL AUTO_INCREMENT, parent_id int(10) unsigned DEFAULT NULL, lastname varchar(255), street varchar(255), PRIMARY KEY (entity_id), CONSTRAINT ADDRESS_ORDER FOREIGN KEY (parent_id) REFERENCES sales_order (entity_id) ON DELETE CASCADE) ENGINE=InnoDB;
ALTER TABLE sales_order ADD CONSTRAINT ORDER_ADDRESS FOREIGN KEY (billing_address_id) REFERENCES sales_order_address (entity_id) ON DELETE SET NULL;
CREATE TABLE catalog_product_price_cl (version_id int(10) unsigned NOT NULL AUTO_INCREMENT, entity_id int(10) unsigned NOT NULL DEFAULT 0, PRIMARY KEY (version_id)) ENGINE=InnoDB;
CREATE TABLE catalogsearch_fulltext_cl LIKE catalog_product_price_cl;
CREATE TABLE mview_state (state_id int(10) unsigned NOT NULL AUTO_INCREMENT, view_id varchar(255) DEFAULT NULL, mode varchar(16) DEFAULT 'disabled', version_id int(10) unsigned NOT NULL DEFAULT 0, PRIMARY KEY (state_id)) ENGINE=InnoDB;
CREATE TABLE session (session_id varchar(255) NOT NULL, session_expires int(10) unsigned NOT NULL DEFAULT 0, session_data mediumblob NOT NULL, PRIMARY KEY (session_id)) ENGINE=InnoDB;
CREATE TABLE url_rewrite (url_rewrite_id int(10) unsigned NOT NULL AUTO_INCREMENT, request_path varchar(255) CHARACTER SET utf8mb3 COLLATE utf8mb3_bin DEFAULT NULL, store_id smallint(5) unsigned NOT NULL, metadata varchar(255) DEFAULT NULL, PRIMARY KEY (url_rewrite_id), UNIQUE KEY URL_REWRITE_REQUEST_PATH_STORE_ID (request_path, store_id)) ENGINE=InnoDB;
DELIMITER //
CREATE TRIGGER trg_catalog_product_entity_after_insert AFTER INSERT ON catalog_product_entity FOR EACH ROW BEGIN
INSERT IGNORE INTO `catalog_product_price_cl` (`entity_id`) VALUES (NEW.`entity_id`);
INSERT IGNORE INTO `catalogsearch_fulltext_cl` (`entity_id`) VALUES (NEW.`entity_id`);
END//
CREATE TRIGGER trg_catalog_product_entity_after_update AFTER UPDATE ON catalog_product_entity FOR EACH ROW BEGIN
IF (NOT(NEW.`attribute_set_id` <=> OLD.`attribute_set_id`) OR NOT(NEW.`sku` <=> OLD.`sku`)) THEN INSERT IGNORE INTO `catalogsearch_fulltext_cl` (`entity_id`) VALUES (NEW.`entity_id`); END IF;
END//
CREATE TRIGGER trg_catalog_product_entity_after_delete AFTER DELETE ON catalog_product_entity FOR EACH ROW BEGIN
INSERT IGNORE INTO `catalog_product_price_cl` (`entity_id`) VALUES (OLD.`entity_id`);
END//
CREATE TRIGGER trg_catalog_product_entity_decimal_after_update AFTER UPDATE ON catalog_product_entity_decimal FOR EACH ROW BEGIN
IF (NOT(NEW.`value` <=> OLD.`value`)) THEN INSERT IGNORE INTO `catalog_product_price_cl` (`entity_id`) VALUES (NEW.`entity_id`); END IF;
END//
CREATE TRIGGER trg_sales_order_before_insert BEFORE INSERT ON sales_order FOR EACH ROW SET NEW.increment_id = COALESCE(NEW.increment_id, LPAD(UUID_SHORT() % 1000000000, 9, '0'))//
DELIMITER ;
CREATE VIEW inventory_stock_1 AS SELECT DISTINCT p.entity_id AS product_id, p.sku AS sku, 1 AS is_salable FROM catalog_product_entity p LEFT JOIN catalog_product_entity_int v ON v.entity_id = p.entity_id AND v.attribute_id = 2;
INSERT INTO store_website (code, is_default) VALUES ('base', 1), ('zweite', 0);
INSERT INTO store (code, website_id, name) VALUES ('default', 1, 'Default'), ('de', 1, 'Deutsch – Österreich'), ('fr', 2, 'Français');
SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO';
INSERT INTO store_website VALUES (0, 'admin', 0); INSERT INTO store VALUES (0, 'admin', 0, 'Admin');
INSERT INTO eav_entity_type (entity_type_code) VALUES ('customer'), ('catalog_category'), ('catalog_product'); INSERT INTO eav_attribute_set (entity_type_id, attribute_set_name) VALUES (3, 'Default');
INSERT INTO eav_attribute (entity_type_id, attribute_code, backend_type, default_value) SELECT 3, CONCAT('attribute_', seq), ELT(1 + seq % 5, 'varchar', 'int', 'decimal', 'datetime', 'text'), IF(seq % 2, NULL, '') FROM seq_1_to_60;
INSERT INTO catalog_product_entity (attribute_set_id, sku, created_at) SELECT 1, CONCAT('SKU-', seq, IF(seq % 3, '', '/ä ')), '2026-10-25 00:00:00' + INTERVAL seq MINUTE FROM seq_1_to_1000;
INSERT INTO catalog_product_entity_varchar (attribute_id, store_id, entity_id, value) SELECT 5 * (1 + seq % 11), seq % 4, 1 + seq % 1000, CASE seq % 3 WHEN 0 THEN NULL WHEN 1 THEN 'Größe \\ "XL" 👟' ELSE CONCAT('v', seq) END FROM seq_1_to_3000 ON DUPLICATE KEY UPDATE value = 'twice';
INSERT INTO catalog_product_entity_int (attribute_id, store_id, entity_id, value) SELECT 2, seq % 2, 1 + seq DIV 2 % 1000, CAST(seq AS SIGNED) - 2147483648 FROM seq_0_to_1999;
INSERT INTO catalog_product_entity_decimal (attribute_id, store_id, entity_id, value) SELECT 3, 0, seq, 99999999999999.999999 - seq FROM seq_1_to_1000;
INSERT INTO catalog_product_entity_datetime (attribute_id, store_id, entity_id, value) SELECT 4, 0, seq, IF(seq % 2, '0000-00-00 00:00:00', '9999-12-31 23:59:59') FROM seq_1_to_200;
INSERT INTO catalog_product_entity_text (attribute_id, store_id, entity_id, value) SELECT 5, 0, seq, CONCAT('<style>#html-body{', REPEAT('margin:0;', 20 * (seq % 100)), '}</style>\n') FROM seq_1_to_300;
UPDATE catalog_product_entity_decimal SET value = value / 3 WHERE entity_id % 10 = 0; UPDATE catalog_product_entity SET sku = CONCAT(sku, '-b') WHERE entity_id % 50 = 0; DELETE FROM catalog_product_entity WHERE entity_id % 97 = 0;
INSERT INTO catalog_category_entity (parent_id, leader_sku, path, position) SELECT NULLIF(seq DIV 3, 0), NULL, CONCAT('1/2/', seq), seq FROM seq_1_to_60;
UPDATE catalog_category_entity c JOIN catalog_product_entity p ON p.entity_id = c.entity_id SET c.leader_sku = p.sku;
INSERT INTO catalog_category_product (category_id, product_id) SELECT 1 + entity_id % 60, entity_id FROM catalog_product_entity;
INSERT INTO sales_order (store_id, grand_total, options) SELECT NULLIF(seq % 4, 0), seq * 1.11, IF(seq % 2, NULL, '{"info_buyRequest":{"qty":1,"ü":"😀"}}') FROM seq_1_to_400;
INSERT INTO sales_order_address (parent_id, lastname, street) SELECT entity_id, 'O''Hara', 'Weg 1\nHinterhaus' FROM sales_order; UPDATE sales_order o JOIN sales_order_address a ON a.parent_id = o.entity_id SET o.billing_address_id = a.entity_id;
INSERT INTO mview_state (view_id, mode, version_id) SELECT 'catalog_product_price', 'enabled', MAX(version_id) FROM catalog_product_price_cl;
INSERT INTO session SELECT MD5(seq), 4294967295, CONCAT(UNHEX('00FF1A275C0A0D'), UNHEX(SHA2(seq, 512)), REPEAT(CHAR(0), seq % 50)) FROM seq_1_to_300;
INSERT INTO url_rewrite (request_path, store_id) VALUES ('Haus.html', 1), ('haus.html', 1), ('häus.html', 1);
