-- SPDX-License-Identifier: MIT
-- A shop's tables in memory, in the manner of the TPC loads; @ROWS@ orders.
pragma cache_size = -1000000;
create table customer(id integer primary key, name text, balance real);
create table item(id integer primary key, name text, price real, stock integer);
create table orders(id integer primary key, customer integer, item integer, amount integer, note text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < @ROWS@ / 10)
insert into customer select i, 'customer ' || hex(i * 7919 % 65537), i * 3 % 1000 from n;
with recursive n(i) as (select 1 union all select i + 1 from n where i < @ROWS@ / 20)
insert into item select i, 'item ' || i, 1 + i * 31 % 97, 1000 from n;
with recursive n(i) as (select 1 union all select i + 1 from n where i < @ROWS@)
insert into orders select i, 1 + i * 7919 % (@ROWS@ / 10), 1 + i * 104729 % (@ROWS@ / 20), 1 + i % 9,
  'order ' || hex(i * 31) || ' of the year ' || (2000 + i % 26) from n;
create index by_customer on orders(customer);
create index by_item on orders(item, amount);
begin;
update item set stock = stock - (select sum(amount) from orders where item = item.id);
update customer set balance = balance + (select coalesce(sum(o.amount * i.price), 0)
  from orders o join item i on i.id = o.item where o.customer = customer.id);
commit;
select count(*), round(sum(balance), 2), max(name) from customer;
select i.name, sum(o.amount) s from orders o join item i on i.id = o.item group by i.id order by s desc, i.id limit 10;
delete from orders where id % 5 = 0;
select count(*), sum(length(note)) from orders;
select note from orders order by substr(note, -4), note limit 5;
vacuum;
pragma integrity_check;
