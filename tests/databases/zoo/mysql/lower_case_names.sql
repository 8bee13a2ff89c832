-- A server that keeps names in lower case, with names that had capitals.
-- since: mariadb 10
-- server: --lower-case-table-names=1
CREATE TABLE Customers (Id int PRIMARY KEY); INSERT INTO Customers VALUES (1); CREATE VIEW AllOfThem AS SELECT * FROM CUSTOMERS;
CREATE TRIGGER Tr BEFORE INSERT ON Customers FOR EACH ROW SET NEW.Id = 5; CREATE PROCEDURE Proc() SELECT 1;
