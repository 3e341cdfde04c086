-- A library of format 2, as version 0.1.0 wrote it: every table as SQL, read by tests/stored_samples.py.
-- Made with stored_samples.fill(store, 6) and a few rows more, by Connection.iterdump() of Python.
PRAGMA page_size = 8192;
PRAGMA application_id = 1399416652;
PRAGMA user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'siglip_index','create_first_schema','2026-11-21 17:04:03.172506+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'siglip_index','add_metadata_companions_and_volumes','2026-11-21 17:04:03.179127+00:00');
CREATE TABLE change (
        id INTEGER PRIMARY KEY,
        generation INTEGER NOT NULL,
        space_id INTEGER NOT NULL,
        photo_id INTEGER NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('add', 'remove'))
    );
INSERT INTO "change" VALUES(1,1,1,1,'add');
INSERT INTO "change" VALUES(2,1,1,2,'add');
INSERT INTO "change" VALUES(3,1,1,3,'add');
INSERT INTO "change" VALUES(4,1,1,4,'add');
INSERT INTO "change" VALUES(5,1,1,5,'add');
INSERT INTO "change" VALUES(6,1,1,6,'add');
INSERT INTO "change" VALUES(7,2,1,7,'add');
INSERT INTO "change" VALUES(8,2,1,8,'add');
INSERT INTO "change" VALUES(9,3,1,8,'remove');
CREATE TABLE companion (
        id INTEGER PRIMARY KEY,
        file_id INTEGER NOT NULL REFERENCES file (id) ON DELETE CASCADE,
        path BLOB NOT NULL,
        display TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('raw', 'live-video', 'sidecar')),
        size INTEGER NOT NULL,
        mtime_ns NOT NULL,
        inode NOT NULL,
        UNIQUE (file_id, path)
    );
INSERT INTO "companion" VALUES(1,7,X'612FFE2E786D70','a/?.xmp','sidecar',4,'9223372036854775809',6);
CREATE TABLE file (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        root_id INTEGER NOT NULL REFERENCES root (id),
        path BLOB NOT NULL,
        display TEXT NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns NOT NULL,
        inode NOT NULL,
        device,
        photo_id INTEGER REFERENCES photo (id),
        failure TEXT,
        -- When it was found missing (epoch seconds); NULL while it is present.
        vanished_at REAL,
        UNIQUE (root_id, path),
        CHECK (photo_id IS NULL OR failure IS NULL)
    );
INSERT INTO "file" VALUES(1,1,X'302E6A7067','0.jpg',1000,1000000000000000000,7,42,1,NULL,NULL);
INSERT INTO "file" VALUES(2,1,X'312E6A7067','1.jpg',1001,1000000000000000001,8,42,2,NULL,NULL);
INSERT INTO "file" VALUES(3,1,X'322E6A7067','2.jpg',1002,1000000000000000002,9,42,3,NULL,NULL);
INSERT INTO "file" VALUES(4,1,X'332E6A7067','3.jpg',1003,1000000000000000003,10,42,4,NULL,NULL);
INSERT INTO "file" VALUES(5,1,X'342E6A7067','4.jpg',1004,1000000000000000004,11,42,5,NULL,NULL);
INSERT INTO "file" VALUES(6,1,X'352E6A7067','5.jpg',1005,1000000000000000005,12,42,6,NULL,NULL);
INSERT INTO "file" VALUES(7,2,X'612FFE2E68656963','a/?.heic',77,'9223372036854775813','18446744073709551614','18446744073709551613',7,NULL,NULL);
INSERT INTO "file" VALUES(8,1,X'636F70792E68656963','copy.heic',1005,1000000000000000005,12,42,7,NULL,NULL);
INSERT INTO "file" VALUES(9,1,X'6261642E6A7067','bad.jpg',1009,1000000000000000009,16,42,NULL,'cut off',NULL);
INSERT INTO "file" VALUES(10,1,X'676F6E652E6A7067','gone.jpg',1006,1000000000000000006,13,42,8,NULL,1.79528064324819612495e+09);
CREATE TABLE meta (
        key TEXT PRIMARY KEY,
        value
    );
INSERT INTO "meta" VALUES('generation',3);
INSERT INTO "meta" VALUES('active_space',1);
INSERT INTO "meta" VALUES('directory',X'2F6C696272617279');
CREATE TABLE online_only (
        id INTEGER PRIMARY KEY,
        root_id INTEGER NOT NULL REFERENCES root (id) ON DELETE CASCADE,
        path BLOB NOT NULL,
        UNIQUE (root_id, path)
    );
INSERT INTO "online_only" VALUES(1,1,X'636C6F75642E6A7067');
CREATE TABLE photo (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        content_hash BLOB NOT NULL UNIQUE,
        size INTEGER,
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        format TEXT NOT NULL,
        taken_at TEXT,
        camera TEXT,
        latitude REAL,
        longitude REAL,
        -- When the last present file went (epoch seconds); NULL while the photo is visible.
        vanished_at REAL
    , taken_source TEXT, lens TEXT, exposure_seconds REAL, f_number REAL, iso INTEGER, focal_length_mm REAL, altitude_m REAL, rating INTEGER, title TEXT, keywords TEXT NOT NULL DEFAULT '[]', metadata_version INTEGER NOT NULL DEFAULT 0);
INSERT INTO "photo" VALUES(1,X'636F6E74656E742D30',1000,640,480,'JPEG',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',0);
INSERT INTO "photo" VALUES(2,X'636F6E74656E742D31',1001,640,480,'JPEG',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',0);
INSERT INTO "photo" VALUES(3,X'636F6E74656E742D32',1002,640,480,'JPEG',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',0);
INSERT INTO "photo" VALUES(4,X'636F6E74656E742D33',1003,640,480,'JPEG',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',0);
INSERT INTO "photo" VALUES(5,X'636F6E74656E742D34',1004,640,480,'JPEG',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',0);
INSERT INTO "photo" VALUES(6,X'636F6E74656E742D35',1005,640,480,'JPEG',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',0);
INSERT INTO "photo" VALUES(7,X'636F6E74656E742D3530',77,640,480,'HEIF','2021-05-04T13:14:15+02:00','Maker Model',-12.5,179.0,NULL,'exif','Maker 35mm',0.01,2.8,100,35.0,-1.5,4,'one','["Été", "sea side"]',3);
INSERT INTO "photo" VALUES(8,X'636F6E74656E742D3531',1006,640,480,'JPEG','2019-01-02T03:04:05',NULL,NULL,NULL,1.79528064324819612495e+09,'exif',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',0);
CREATE TABLE root (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        path BLOB NOT NULL UNIQUE,
        display TEXT NOT NULL,
        device
    , volume TEXT, volume_path BLOB, exclude TEXT NOT NULL DEFAULT '[]');
INSERT INTO "root" VALUES(1,X'2F7069637475726573','/pictures',42,'ext4:1234',X'686F6D652F7069637475726573','["*.png"]');
INSERT INTO "root" VALUES(2,X'2F6F7468657220FF','/other ?','18446744073709551615',NULL,NULL,'[]');
CREATE TABLE snapshot (
        id INTEGER PRIMARY KEY,
        space_id INTEGER NOT NULL REFERENCES space (id),
        generation INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        UNIQUE (space_id, sha256)
    );
CREATE TABLE space (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        dimension INTEGER NOT NULL CHECK (dimension > 0),
        model TEXT NOT NULL,
        -- Changes of this and earlier generations are no longer in the log.
        log_start INTEGER NOT NULL DEFAULT 0
    );
INSERT INTO "space" VALUES(1,'space-a',16,'sample',1);
CREATE TABLE vector (
        id INTEGER PRIMARY KEY,
        photo_id INTEGER NOT NULL REFERENCES photo (id),
        space_id INTEGER NOT NULL REFERENCES space (id),
        embedding BLOB NOT NULL,  -- little-endian IEEE half precision
        precision TEXT NOT NULL,
        device TEXT NOT NULL,
        UNIQUE (photo_id, space_id)
    );
INSERT INTO "vector" VALUES(1,1,1,X'61289AA894314F27AAB04D2EAE35203421B283B56EB1C22110B99FAB6DB561B2','fp32','cpu');
INSERT INTO "vector" VALUES(2,2,1,X'4CB252AFC3300836F3A9E737B2B311303A355A284DB455B54CB1182DD7B5D7AC','fp32','cpu');
INSERT INTO "vector" VALUES(3,3,1,X'10A94C30D32AA62D32B11FA83B32EF3501B5043659353532342CFDACCB35CA37','fp32','cpu');
INSERT INTO "vector" VALUES(4,4,1,X'2C373C35B12DD0B48A943A3121B54B2ED92E8B31B7B445B1F3AEA8B4ED36E6AF','fp32','cpu');
INSERT INTO "vector" VALUES(5,5,1,X'7F2C11AB69358334543087B7B021AC30DC3239B03A3683B485B064325D21D736','fp32','cpu');
INSERT INTO "vector" VALUES(6,6,1,X'882A7CB18AAEBAB488B5763109319B3589B25137FAACD1367FAF5FB2542C7734','fp32','cpu');
INSERT INTO "vector" VALUES(7,7,1,X'3E2F1CAFFC302AB53436B0A9F52FC8314A2B5B29FFB46CA909B08C0F07B9CCB5','fp32','cpu');
INSERT INTO "vector" VALUES(8,8,1,X'DCAC4C2CACAA92B4EBB01EAF57BA87B252B291B1482DB1B4642F4A2D472F362C','fp32','cpu');
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE INDEX file_by_photo ON file (photo_id);
CREATE INDEX change_by_space ON change (space_id, generation);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('root',2);
INSERT INTO "sqlite_sequence" VALUES('photo',8);
INSERT INTO "sqlite_sequence" VALUES('file',10);
COMMIT;
